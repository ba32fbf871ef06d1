// Owns the page of the API: draws the document that the page names, without the paths of single collections. These repeat
// those of any collection, for programs, and hundreds of them would take the browser minutes.

const element = document.getElementById('api')

/** Matches the paths of single collections. */
const SINGLE = /^\/collections\/[^{]/

fetch(element.dataset.document)
  .then((response) => response.json())
  .then((spec) => {
    for (const path of Object.keys(spec.paths)) if (SINGLE.test(path)) delete spec.paths[path]
    window.SwaggerUIBundle({ domNode: element, spec, deepLinking: true, docExpansion: 'list' })
  })
