// Owns the colours of maps. Each colour of features has a contrast of at least 3:1 to land and sea (WCAG 2.2, 1.4.11), and can
// be told from its neighbours in the list by people who see some colours alike.

export const SCHEMES = {
  light: {
    sea: '#dbe9f1',
    land: '#f6f3ec',
    border: '#b3b9bf',
    /** Around points, and behind texts. */
    outline: '#ffffff',
    ink: '#1b1f24',
    /** Features without a class. */
    rest: '#737b83',
    kinds: ['#00785b', '#b3480f', '#2b5fb0', '#a02c7d', '#7a6400', '#0a7285', '#6a45b5', '#a8263c'],
    /** From few to many: the lightest comes first. */
    classes: ['#b8660b', '#b9432c', '#a1295a', '#6d1d77', '#2d1a66'],
  },
  dark: {
    sea: '#10202b',
    land: '#26323a',
    border: '#4a5863',
    outline: '#0b1216',
    ink: '#e6eaee',
    rest: '#98a3ad',
    kinds: ['#4fd1ae', '#ffa26b', '#82b4ff', '#f490d0', '#e3cb5b', '#6cd3e8', '#bfa5ff', '#ff9393'],
    /** From few to many: the darkest comes first. */
    classes: ['#8f78cc', '#dd7fb9', '#ff8f80', '#ffb861', '#fdf08a'],
  },
}
