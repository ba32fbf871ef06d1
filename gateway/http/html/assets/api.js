// Owns the page of the API: draws the document that the page names.

const element = document.getElementById('api')
window.SwaggerUIBundle({
  domNode: element,
  url: element.dataset.document,
  deepLinking: true,
  docExpansion: 'list',
})
