// Owns maps of collections: of one of them on its page, and of all on a page of their own.

import { letChoose } from './choosing.js'
import { addLayers } from './layers.js'
import { boxIn, data, openMap } from './map.js'

const { map } = await openMap(boxIn(data.bounds))
if (map)
  letChoose(
    map,
    addLayers(map, () => ''),
  )
