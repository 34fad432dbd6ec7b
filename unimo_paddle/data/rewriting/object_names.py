"""Names of creatures, people and things that move or are moved, by kind.

The tables say what may stand for what, and what may be the same. The notation is that of
``lexicon.Table``. A kind's names can be exchanged with each other (or with those of the kinds
after ">") and still give a sentence. A line is one idea and all its names, the usual one first;
names on one line never contradict each other. A line that ends with a comma goes on in the next.
Marks of a line:

    -       an idea that captions leave unsaid even where it is seen: it is never put in
    *       a general word that may mean any idea of its kind
    a > b   a general word that may mean the ideas after ">"
    ~       ideas, of any kind, that one and the same thing may be called
    ~ a > b an idea that goes with each of the ideas after ">", whatever its kind

A kind is ``[name]``, ``[name, mass]`` (no plural), ``[name, plural]`` (no singular).
"""

THINGS = """
[animal]
dog, puppy, pup, doggy, doggie, canine, hound, greyhound, poodle, retriever, labrador, lab,
  terrier, shepherd, collie, bulldog, husky, beagle, dachshund, chihuahua, pug, rottweiler,
  spaniel, boxer dog, mutt, dalmatian, corgi, sheepdog, german shepherd, border collie,
  golden retriever, dog team
cat, kitten, kitty
horse, pony, foal, stallion, mare, colt, bronco, mustang
cow, bull, calf, ox, steer, cattle, buffalo, bison
pig, hog, piglet, boar
goat, ram
- sheep, lamb
elephant
giraffe
zebra
lion, lioness
tiger
leopard, cheetah, jaguar
bear, grizzly, polar bear, bear cub
panda
monkey, ape, gorilla, chimpanzee, orangutan
rabbit, bunny, hare
squirrel, chipmunk
rat, mouse, hamster
fox
wolf
- deer, elk, reindeer, moose, antelope
camel
llama, alpaca
donkey, mule
kangaroo
turtle, tortoise
snake
frog, toad
lizard, iguana
crocodile, alligator
whale
dolphin
shark
seal, sea lion, walrus
penguin
duck, duckling, mallard
swan, goose
chicken, rooster, hen, turkey
owl
eagle, hawk, falcon
parrot
pigeon, dove
seagull, gull
peacock
flamingo, heron, crane, stork
ostrich, emu
- fish
butterfly, moth
bee, wasp
spider
crab, lobster
* animal, creature, pet, beast, wildlife, mammal
bird > duck, swan, chicken, owl, eagle, parrot, pigeon, seagull, peacock, flamingo, ostrich, penguin
~ dog, wolf, fox
~ horse, donkey
~ goat, sheep, llama
~ lion, tiger, leopard
~ rabbit, squirrel, rat
~ duck, swan
~ eagle, owl, seagull, pigeon
~ whale, dolphin, shark, seal, fish
~ crocodile, lizard
~ llama, camel

[male > female, role]
man, guy, gentleman, dude, male, businessman, father, dad, fellow, groom, grandfather, fisherman,
  workman, policeman, fireman, cowboy, priest, monk
boy, son, schoolboy
brother > boy, man

[female > male, role]
woman, lady, female, businesswoman, mother, mom, bride, grandmother, cowgirl, waitress, actress, nun
girl, daughter, schoolgirl
sister > girl, woman

[person]
- child, kid, toddler, youngster, youth, teenager, teen, preschooler, tot
- baby, infant, newborn
- someone, somebody, figure, adult, individual, friend, other, one, passerby, pedestrian,
  bystander, onlooker, spectator, customer, shopper, tourist, participant, competitor, guest,
  worker, employee, performer, student
- people, couple, everyone, pair, each
- crowd, group, family, team, audience, class, band, spectators, lot, bunch, trio, line, others,
  number
- rider, player, athlete, racer, opponent, model, actor, artist, owner, driver, contestant,
  passenger, kayaker, canoer, rower, paddler, sailor, referee, umpire, coach, teammate, goalie,
  pitcher, catcher, batter, quarterback, cheerer, fan, official, instructor, trainer, walker,
  jumper, skater, climber, snowmobiler
* person, human

[role]
surfer, windsurfer
skier
snowboarder
skateboarder, rollerblader
cyclist, bicyclist
- biker, bmxer
motorcyclist, motorbiker
mountain climber, rock climber
scuba diver, snorkeler
- swimmer, diver
- hiker, backpacker, runner, jogger
ballerina
cheerleader
clown
soldier, marine
police officer, cop, officer
firefighter, firewoman
chef
nurse
astronaut
pirate
ninja
wizard
robot
mermaid
knight
golfer
wrestler
boxer
gymnast
tennis player
basketball player
football player
baseball player
hockey player
soccer player
volleyball player
farmer
sumo wrestler
- dancer, musician, singer, guitarist, drummer, waiter, doctor, businessperson, graduate
~ surfer, surfboard, wave, surf, swimmer
~ skier, ski, snowboarder, snowboard
~ skateboarder, skateboard, skater, rollerblade
~ cyclist, biker, bicycle, motorcyclist, motorcycle, rider
~ mountain climber, climber, cliff, hiker, swing rope
~ scuba diver, swimmer, diver
~ soldier, police officer, uniform
~ nurse, doctor, scrubs
~ boxer, wrestler, sumo wrestler, dog
~ golfer, golf club, golf
~ gymnast, dancer, ballerina, cheerleader
~ tennis player, tennis racket, tennis ball, player
~ basketball player, basketball, player
~ football player, football, player
~ baseball player, baseball, baseball bat, player, batter, catcher, pitcher
~ hockey player, hockey, player, goalie
~ soccer player, soccer ball, player, goalie
~ volleyball player, volleyball, player
~ chef, waiter
~ people > man, boy, woman, girl, child, baby
~ person > man, boy, woman, girl, child, baby
~ crowd > man, boy, woman, girl, child, baby
~ child > boy, girl, baby
~ someone > man, woman, boy, girl, child
~ player > tennis player, basketball player, football player, baseball player, hockey player,
  soccer player, volleyball player, golfer, gymnast, wrestler, boxer, skateboarder, cyclist,
  motorcyclist, surfer, skier, snowboarder
~ robot, costume
~ knight, costume
~ pirate, costume
~ ninja, costume, karate
~ wizard, costume
~ clown, costume
~ astronaut, costume
~ mermaid, costume

[vehicle]
bicycle, bike, tandem bicycle, tricycle, mountain bike, dirt bike
motorcycle, motorbike, moped, scooter, vespa
car, automobile, sedan, convertible, sports car, race car, taxi, cab, limousine, jeep, suv
truck, pickup, pickup truck, fire truck, dump truck
bus, school bus
van, minivan
train, locomotive
tractor
- atv, four wheeler, quad, four-wheeler, dune buggy, buggy, go-kart, go-cart
wheelchair
stroller, baby carriage, pram
sled, sledge, toboggan, sleigh
unicycle
carriage, horse cart
helicopter
airplane, plane, jet
hot air balloon
tank
ambulance
snowmobile
shopping cart
bulldozer, excavator
- cart, wagon, wheelbarrow, trailer
* vehicle
~ bicycle, motorcycle, unicycle, vehicle
~ car, truck, van, bus, vehicle, ambulance
~ truck, trailer, tractor, tank, bulldozer
~ train, subway
~ stroller, carriage, cart, shopping cart, wheelchair
~ sled, snowmobile
~ airplane, helicopter

[boat]
canoe
kayak
sailboat, yacht
rowboat
submarine
ferry, cruise ship, ship
gondola
- raft, inner tube, tube, life raft, float, jet ski, speedboat, motorboat, tugboat, paddle boat
* boat, vessel, watercraft
~ canoe, kayak, rowboat, gondola
~ sailboat, ship, ferry

[board]
surfboard, surf board
skateboard, skate board
snowboard
bodyboard, boogie board, body board
- board, wakeboard, paddle board, kickboard
~ surfboard, board, bodyboard, wakeboard
~ skateboard, board
~ snowboard, board

[sports thing]
soccer ball
basketball
volleyball
baseball
tennis ball
beach ball
football, rugby ball
bowling ball
hockey stick
baseball bat
tennis racket, racket, racquet, tennis racquet
golf club
frisbee
balloon
kite
boomerang
javelin
- ball, bat, toy, stick, disc, disk, puck, softball, golf ball, volley ball
~ ball > soccer ball, basketball, volleyball, baseball, tennis ball, beach ball, football,
  bowling ball, balloon
~ bat, baseball bat, baseball, softball
~ frisbee, disc
~ balloon, beach ball, ball
~ stick, hockey stick, javelin, boomerang
~ football, game, match
~ soccer ball, soccer
~ tennis ball, tennis, tennis racket
~ volleyball, net
~ hockey stick, hockey
~ baseball, game

[instrument]
guitar, bass guitar, electric guitar, banjo, ukulele
piano, keyboard, organ
violin, fiddle, cello
trumpet, trombone, tuba, horn
saxophone
flute, clarinet
drum
accordion
harp
harmonica
tambourine
bagpipe
* instrument, musical instrument
~ trumpet, saxophone
~ drum, tambourine

[handheld]
umbrella, parasol
sword
newspaper
- book, magazine, notebook, paper, map, sign
- camera, video camera, cellphone, cell phone, phone, mobile phone, telephone
laptop, laptop computer
microphone
broom
shovel
ladder
hammer
paintbrush
- flag, banner, rope, pole, bottle, cup, glass, bag, box, bucket, leash, towel, blanket, pen, cane
suitcase
backpack, rucksack, knapsack
- purse, handbag, shopping bag, briefcase
teddy bear, stuffed animal
doll
lantern, torch
trophy
rifle, gun, pistol
fishing pole, fishing rod
pumpkin
pillow
vacuum cleaner
megaphone
~ gun, rifle, toy
~ doll, teddy bear, toy
~ suitcase, bag, briefcase, backpack
~ fishing pole, pole
~ sword, stick
~ broom, shovel, pole, stick
~ laptop, computer
~ newspaper, paper, magazine, book

[food]
ice cream cone, icecream cone
cake, birthday cake, cupcake
pizza
sandwich
hamburger, burger
hot dog
apple
banana
watermelon
orange fruit
carrot
donut, doughnut
lollipop, popsicle
cookie
- salad, soup, bread, egg, fruit, vegetable, meal, snack, candy, dish
* food
~ apple, orange fruit, fruit
~ carrot, vegetable
~ sandwich, hamburger, hot dog
~ cookie, cake, donut
~ ice cream cone, ice cream, lollipop
"""
