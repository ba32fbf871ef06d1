// Owns the search path of a session: PostGIS may be installed in a schema that the search path lacks.

/**
 * Expression that adds the schema of PostGIS to the search path of the session, so that statements find its types,
 * functions and operators without naming the schema; null if it is there already, or if there is no PostGIS.
 */
export const ADD_POSTGIS = `(
  select set_config('search_path', concat_ws(', ', nullif(current_setting('search_path'), ''), quote_ident(nspname)), false)
  from pg_extension join pg_namespace n on n.oid = extnamespace
  where extname = 'postgis' and nspname <> all(current_schemas(true)) and has_schema_privilege(n.oid, 'usage'))`
