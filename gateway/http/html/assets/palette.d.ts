// Owns the types of palette.js.

export const SCHEMES: Readonly<
  Record<
    'light' | 'dark',
    {
      readonly sea: string
      readonly land: string
      readonly border: string
      readonly outline: string
      readonly ink: string
      readonly rest: string
      readonly kinds: readonly string[]
      readonly classes: readonly string[]
    }
  >
>
