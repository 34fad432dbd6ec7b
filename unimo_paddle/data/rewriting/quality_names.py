"""Words for how things are and what they do, by kind, in the notation of ``object_names``.

The kinds of QUALITIES are what an adjective says: of two words of a kind that may not be the same,
one at most is true of a thing. The kinds of ACTIONS exchange verbs; those of PLACINGS prepositions.
"""

QUALITIES = """
[colour]
red, scarlet, crimson
orange
yellow
green, lime, lime green
turquoise, teal, aqua
blue, navy, navy blue, light blue, dark blue
purple, violet, lavender
pink, magenta
brown
black
white
- gray, grey, silver, tan, beige, golden, gold, cream, maroon, blond, blonde, dark, light, khaki,
  ivory, bronze
- colorful, colourful, multicolored, multi-colored, multi colored, rainbow, tricolor, tri-colored,
  bright, spotted, camouflage, plaid, flowered, floral, striped
~ red, orange, pink, maroon
~ orange, yellow, golden, tan, brown
~ purple, pink, maroon, blue
~ blue, turquoise, green, gray
~ yellow, golden, tan, beige, cream, blonde, white, khaki
~ brown, tan, golden, beige, black, maroon, red, gray, khaki
~ black, gray, dark, brown, blue
~ white, gray, silver, light, cream, beige, ivory
~ green, khaki, camouflage, yellow
~ colorful > red, orange, yellow, green, turquoise, blue, purple, pink, brown, black, white

[material of furniture, structure, place on, place in, play place, handheld, thing]
wooden, wood
metal, steel, iron
- plastic, rubber, paper, leather, denim, cloth
glass
stone, brick, concrete, cement, rock
~ metal, plastic, silver

[terrain of place on, place in, ground, water place]
grassy, grass, green
snowy, snow-covered, snow covered, icy, snow, ice
sandy, dirt, dusty, muddy, mud, sand
- rocky, stony, gravel, rock
- paved, wooded, leafy, dry, wet, hilly
~ rocky, sandy
~ grassy, wooded, leafy, hilly

[weather of place on, place in, thing]
sunny
rainy
foggy, misty
stormy
~ rainy, stormy, foggy

[age of man, woman]
young, younger, youthful, teenage, little, small
elderly, old, older, aged, senior
- adult, grown, middle-aged

[hair of male, female, person]
blond, blonde, blond-haired, blonde-haired, blonde haired, blond haired
bald
- red-haired, redheaded, dark-haired, brunette, brown-haired, dark haired, brown haired,
  long-haired, haired, gray-haired, white-haired, curly-haired, shirtless

[mood of male, female, person]
smiling, happy, laughing, grinning
crying, sad, weeping
sleeping, asleep, sleepy
- angry, screaming, serious, surprised

[wetness of animal, male, female, person]
wet, soaked, soaking
dry
- muddy, damp

[pattern of topwear, headwear, legwear, footwear, handheld, furniture, shape, sports thing]
striped
checkered, checked, plaid
polka-dot, dotted, polka dot, spotted
- plain, flowered, floral, patterned, printed, tie-dyed
~ striped, patterned
~ checkered, patterned
~ plain, patterned

[size of shape]
small, little, tiny, miniature
large, big, huge, giant, enormous
- medium, tall, short, long

[number of animal, male, female, person, role, vehicle, boat, people]
two
three
four
five
six
seven
eight
- one, both, several, many, some, few, numerous, a couple of
~ four, several, many, some, few
~ three, several, some, few
~ five, six, seven, eight, several, many, some, numerous

[corner]
upper left
upper right
lower left
lower right
- centre, center, middle, top, bottom, left, right
"""

ACTIONS = """
[posture]
stand, pose, wait
sit, squat, crouch
lie, sleep, lay, rest, relax
kneel
dance
- lean, look, watch, play, perform, work, talk, gather, hang, move, stare, smile
~ stand, look, watch, talk, gather, play, perform, work, lean, smile, dance
~ sit, look, watch, talk, gather, play, perform, work, lean, rest, smile, kneel
~ lie, look, watch, kneel, sit
~ kneel, look, watch, talk, play, work, perform, stand
~ dance, play, perform, move, jump

[motion]
run, race, sprint, jog, dash, chase
walk, stroll, hike, march, wander, step
swim
crawl
fly
- jump, leap, hop, bound, play, climb, move, go, ride, skate, ski, surf, slide, roll, travel,
  trot, fetch, wade, splash, dive, fall, float, paddle, sail, skateboard, snowboard, bike, cycle
~ run, walk, jump, play, move, go, trot, climb, fetch, wade, splash
~ swim, dive, float, wade, splash, play, paddle, surf, go, move
~ crawl, climb, walk, move, go, play, lie, roll, wade
~ fly, jump, leap, move, go, dive, float

[riding]
ride
push
wash
repair, fix
paint
- pull, drive, pedal, race, carry
~ ride, drive, pedal, race
~ push, pull, carry

[holding]
hold, carry, grip, grab
throw, toss
kick
wash
- catch, chew, bite, fetch, use, play, swing, hit, retrieve, bring, take, chase, shake, drop,
  pick, lift, raise, wave, show
~ hold, catch, use, play, swing, fetch, bring, take, retrieve, bite, chew, lift, raise, wave,
  pick, show, shake, hit
~ throw, catch, play, hit, drop, use, swing, take, shake
~ kick, play, hit, use, chase
~ wash, use, shake

[wearing]
wear
wash
fold
throw, toss
tear
"""

PLACINGS = """
[placing]
on, on top of, onto, upon, atop, across, along
under, underneath, beneath, below
above, over
behind
in front of, before
next to, beside, near, at, against, alongside
inside, in, within, into
- outside, outside of
- with, by, around
- through, between, among, from, past, toward, towards, off, out of
~ on, next to, in front of, over
~ behind, next to, past, through, from, between
~ in front of, next to, past, toward, from
~ inside, on, through, between, next to, among, out of
~ above, on, through, next to, in front of, behind
~ with, next to, inside, on, in front of
~ by, next to, in front of, behind
~ around, next to, in front of, behind
~ outside, next to, in front of, from, out of, past
~ under, next to, through, from

[side]
left of, to the left of
right of, to the right of
above
below, under
in front of, partly hiding
"""
