"""Names of what is worn, stood on and seen around, by kind, and of doings that imply things.

The notation is explained in ``object_names``. The kind "doing" holds words that name no thing, and
yet say that some are there: who skis has snow below the skis.
"""

PLACES = """
[furniture]
- chair, stool, armchair, lawn chair, seat, rocking chair, folding chair
- table, desk, picnic table, counter
couch, sofa, loveseat
bed, crib, bunk bed
park bench
bathtub, hot tub
hammock
piano bench
toilet
refrigerator, fridge
bookshelf
- bench, mattress, cushion, rug, carpet, mat, shelf, cabinet, dresser, lamp, television, tv
trampoline
~ couch, chair, bench, park bench
~ bench, park bench
~ bed, couch, mattress

[play place]
slide
swing, tire swing
seesaw, teeter totter
merry-go-round, carousel
roller coaster
- ramp, rail, handrail, railing, bar, obstacle, obstacle course, jungle gym, monkey bars,
  inflatable, bounce house
~ slide, water slide, playground
~ swing, playground
~ trampoline, inflatable

[headwear]
- hat, cap, baseball cap, beanie, bandanna, bandana, headband, hood, helmet, hard hat, visor
crown, tiara
turban
cowboy hat
santa hat
sombrero
top hat
wig
veil
gas mask
- mask, goggles, headphones
~ cowboy hat, sombrero, hat
~ santa hat, hat
~ top hat, hat
~ turban, bandanna, hat, veil
~ crown, headband, hat
~ gas mask, mask
~ wig, hair, afro

[topwear]
- shirt, t-shirt, tshirt, tee shirt, blouse, tank top, jersey, polo shirt, sweater, sweatshirt,
  hoodie, pullover, jumper shirt
- jacket, coat, vest, life jacket, life vest, parka, raincoat, overcoat
- costume, disguise
- suit, outfit, uniform, dress, gown, bathing suit, swimsuit, sundress, leotard, skirt, tutu,
  apron, robe
bikini
wetsuit, wet suit
tuxedo
wedding dress
kimono
bathrobe
poncho
spacesuit
lab coat
hawaiian shirt
kilt
cape
* garment
~ bikini, bathing suit, dress, shirt, suit
~ wetsuit, suit, bathing suit
~ tuxedo, suit, jacket
~ wedding dress, dress, bride, suit
~ kimono, robe, dress, suit
~ poncho, jacket, shirt
~ spacesuit, suit
~ bathrobe, suit
~ lab coat, jacket
~ hawaiian shirt, shirt
~ kilt, suit
~ cape, costume

[legwear, plural]
- pants, jeans, trousers, shorts, overalls, trunks, swim trunks, slacks, tights, leggings,
  sweatpants, khakis, clothes, pajamas, swimming trunks, underwear, boxers

[footwear, plural]
- shoes, sneakers, boots, sandals, socks, cleats, tennis shoes, feet
high heels
ice skates
roller skates, rollerblades
flippers, fins
skis
snowshoes
cowboy boots
rain boots
stilts
~ high heels, shoes
~ cowboy boots, shoes, rain boots
~ roller skates, ice skates, shoes
~ flippers, snowshoes, skis
~ skis, skier

[ground, mass]
grass, turf, greenery
snow
sand, dirt, mud, soil, gravel, dust
ice
water
lava
- pavement, concrete, cement, asphalt, leaves, hay, straw, foam, rubble, foliage
~ snow, ice
~ grass, field, lawn, park, yard
~ snow, slope, ski slope
~ sand, beach, desert, sand dune
~ water > lake, swimming pool, ocean, river, surf, fountain, waterfall, beach, sprinkler, boat,
  raft, canoe, kayak, sailboat, dock, dolphin, whale, shark
~ ice, ice rink, hockey

[water place]
swimming pool, pool
river, stream, creek
ocean, sea
lake, pond
fountain
bathtub pool, kiddie pool
- surf, wave, puddle, rapid, waterfall, marsh, canal, waterway, bay
~ surf > river, lake, ocean, swimming pool, fountain, kiddie pool
~ lake, swimming pool
~ fountain, sprinkler, puddle, water
~ swimming pool, kiddie pool, water
~ ocean, beach, wave, surf, shore, bay

[place on]
beach, shore, seashore, shoreline, coast
road, street, highway
sidewalk
- path, trail, walkway, pathway, driveway, dirt road, track, curb, course, racetrack, lane, bank
stage
bridge
balcony, porch, patio
dock, pier
roof, rooftop
tennis court
basketball court
baseball field
football field
soccer field
golf course
ski slope
escalator
runway, catwalk
railroad track, train track
staircase, stairs
- field, lawn, court, hill, hillside, slope, mountain, cliff, ledge, rock, boulder, platform, deck,
  floor, ground, lawn, plain, meadow, hilltop, embankment, mound, step, log, wall, fence,
  boardwalk
~ road, sidewalk, path, driveway, course, track, runway
~ bridge, dock, walkway, boardwalk, platform, deck
~ balcony, deck, roof, platform
~ stage, platform, floor
~ field, soccer field, football field, baseball field, golf course, park, meadow, grass
~ tennis court, basketball court, court
~ ski slope, slope, hill, mountain
~ beach, dock, sand
~ staircase, escalator, step, ladder

[place in]
- park, yard, backyard, garden, field, meadow, forest, woods, area, city, town, village, clearing,
  countryside, crowd, alley, parking lot, zoo, playground, wilderness, farm
kitchen
bedroom
bathroom
living room
- room, house, home, hallway, building, studio, store, shop, market
classroom
library
office
church
restaurant, cafe, diner
supermarket, grocery store
swimming hall
gymnasium, gym
hospital
barn
cave
desert
jungle
tunnel
subway station, train station
airport
museum
movie theater
stadium, arena
bowling alley
garage
factory
elevator
laundromat
corn field
cemetery, graveyard
canyon
nightclub
- bar, pub, tent, club, mall, station
~ stadium, gymnasium, field, court, track
~ restaurant, bar, kitchen, cafeteria
~ supermarket, market, store
~ church, building
~ desert, beach, sand, canyon
~ jungle, forest, woods, zoo
~ tunnel, cave
~ barn, farm
~ bedroom, living room, room, house
~ bathroom, bathtub, house
~ living room, couch, house, room
~ kitchen, house, room
~ classroom, library, office, room
~ museum, building
~ hospital, room
~ nightclub, bar, party, club, concert
~ garage, house
~ airport, station, subway station
~ cemetery, park
~ corn field, field, farm
~ forest, woods, park, tree

[structure]
- building, house, fence, wall, gate, door, window, post, pole, railing, pillar, ladder, brick wall
lighthouse
windmill
castle
statue, sculpture
tent
snowman
skyscraper, tower
phone booth
ferris wheel
scarecrow
totem pole
campfire, bonfire
waterfall
christmas tree
palm tree
tombstone, gravestone
- sign, tree, bush, hedge, log, stump, rock, boulder, tire, barrel, hurdle, bucket, box,
  trash can, fire hydrant, traffic light, street light, stop sign, trash, flower, plant, branch
~ castle, building, house, church
~ lighthouse, skyscraper, building
~ windmill, building
~ statue, fountain
~ snowman, snow
~ palm tree, tree
~ christmas tree, tree
~ tent, canopy
~ phone booth, phone
~ campfire, fire
~ tombstone, rock
~ ferris wheel, carnival

[shape]
circle
square
triangle
star
heart
ring
* object, shape

[scene ground, mass]
paper
wood
bricks
tiles
cloth

[thing]
- something, thing, item, picture, photo, photograph, background, distance, air, sky, sun, sunset,
  night, day, top, front, side, middle, edge, end, back, mouth, face, hand, head, hair, arm, leg,
  tail, ear, eye, nose, tongue, body, neck, lap, shoulder, foot, finger, sunglasses, glasses,
  collar, scarf, glove, belt, tie, necklace, watch, beard, harness, muzzle, goggle, set, piece,
  pile, row, kind, type, part
- game, match, race, competition, event, party, concert, show, festival, contest, trick, jump,
  stunt, dance, fight
- tennis, soccer, hockey, golf, karate, carnival
- fire, smoke, rain, bubble, splash, shadow, light, sunlight, spray, sprinkler, hose, net, goal,
  hoop, wheel, curtain, wing, afro, ski, rollerblade, scrubs, subway, ice cream, swing rope,
  cafeteria, computer, canopy

[doing]
- skiing, ski, skis, skied, sledding, sled, snowboarding, snowboards, snowball, winter, avalanche
- swimming, swim, swims, swam, diving, dive, dives, wading, wade, wades, splashing, splash,
  splashes, surfing, surfs, kayaking, paddling, paddle, paddles, rowing, row, rows, sailing,
  fishing,
  floating, float, floats, rafting, bathing, bathe, underwater, wet, waterskiing, wakeboarding
- biking, bikes, cycling, bicycling, bmx, pedaling, pedals, wheelie, motocross, racing, race, races
- riding, ride, rides, rode, rider
- skateboarding, skateboards, skating, skates, grinding, grinds, rollerblading, ollie
- climbing, climb, climbs, climbed, rappelling, rappels, scaling, hiking
- dancing, dance, dances, ballet, performing, performs, cheering, cheers, gymnastics, flipping,
  flip,
  flips, somersault, handstand, cartwheel
- wrestling, wrestle, wrestles, fighting, fight, fights, boxing, karate, martial, judo, tackling
- reading, read, reads
- singing, sings, sing, band, music, stage, performance, musical
- driving, drives, drive, traffic, parked
- sleeping, sleeps, sleep, lying, lies, napping
- cooking, cooks, cook, grilling, baking
- playing, plays, play, played, catching, catch, catches, throwing, throw, throws, kicking, kick,
  kicks, hitting, hit, hits, pitching, batting, swinging, swings, fetch, fetching, dribbling,
  dunking, bat, ball
- shopping, shops, buying, selling
- graffiti, downtown, urban, city, town
- golfing, putting, teeing
- wedding, married, marrying, marriage
- military, army, uniformed, troops
- halloween, costumed, dressed, masked
- sandy, dusty, muddy, dirty, dig, digging, digs
- grassy, pasture, meadow
- snowy, icy, frozen, snow-covered
- rain, rainy, raining, soaked
~ skiing > snow, ice, skier, snowboarder, sled, ski slope, snowmobile, skis
~ snowy > snow, ice, ski slope
~ grassy > grass, field, corn field
~ sandy > sand, beach, desert
~ rain > water, umbrella
~ swimming > water, swimming pool, river, ocean, lake, fountain, kiddie pool, surfer, scuba diver,
  beach,
  wetsuit, bikini, surfboard, canoe, kayak, bodyboard, sailboat, rowboat
~ biking > bicycle, motorcycle, cyclist, motorcyclist, unicycle
~ riding > bicycle, motorcycle, cyclist, motorcyclist, horse, cow, sled, carriage, unicycle,
  skateboard, car,
  camel, donkey, roller coaster, merry-go-round, surfboard
~ skateboarding > skateboarder, skateboard, ice skates, roller skates
~ climbing > mountain climber, ladder, staircase, canyon
~ dancing > ballerina, cheerleader, gymnast, stage, clown
~ wrestling > wrestler, boxer, sumo wrestler, ninja
~ reading > newspaper
~ singing > microphone, guitar, piano, drum, violin, trumpet, saxophone, flute, accordion, stage,
  nightclub
~ driving > car, truck, van, bus, road
~ sleeping > bed, couch, pillow, hammock
~ cooking > chef, kitchen
~ playing > tennis player, basketball player, football player, baseball player, hockey player,
  soccer player,
  volleyball player, soccer ball, basketball, volleyball, baseball, tennis ball, football, frisbee,
  baseball field, football field, soccer field, basketball court, tennis court, beach ball,
  bowling ball
~ shopping > supermarket, shopping cart
~ graffiti > road, sidewalk
~ golfing > golfer, golf club, golf course
~ wedding > wedding dress, tuxedo, church
~ military > soldier, rifle
~ halloween > clown, pirate, ninja, wizard, knight, robot, mermaid, astronaut, pumpkin, wig, cape
"""
