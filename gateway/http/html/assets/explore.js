// Owns maps of collections: of one of them on its page, and of all on a page of their own.

import { held, hold } from './address.js'
import { letChoose } from './choosing.js'
import { follow } from './following.js'
import { addLayers } from './layers.js'
import { boxIn, data, openMap } from './map.js'
import { letChooseTime } from './time.js'

const { map } = await openMap(boxIn(data.bounds))
if (map) {
  const selectionOf = ({ isTemporal }) => {
    const datetime = isTemporal && held('datetime')
    return datetime ? { datetime } : {}
  }
  const layers = addLayers(map, selectionOf)
  letChoose(map, layers)
  letChooseTime(held('datetime'), (interval) => {
    hold('datetime', interval)
    for (const layer of layers) if (layer.isTemporal) layer.select()
  })
  follow(map, layers)
}
