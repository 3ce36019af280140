#!/bin/sh
# Collects games of a scripted player, at most so many steps each, with sticky actions and the actions of all games:
# atari_data.sh PROGRAM GAMES STEPS SEED GAME NAME [KWARG=VALUE...]. A dataset that is there stays.
set -e
program=$1 games=$2 steps=$3 seed=$4 game=$5 name=$6
shift 6
[ -d "datasets/atari/$name" ] && exit
changes=
for kwarg; do changes="$changes --env-kwarg $kwarg"; done
# Unquoted: no kwarg has a space.
"$program" collect --env "envpool:$game-v5" --env-kwarg full_action_space=true --env-kwarg repeat_action_probability=0.25 \
    --env-kwarg "max_episode_steps=$steps" $changes --policy scripted --noise 0 --episodes "$games" --num-envs 32 \
    --seed "$seed" --out "datasets/atari/$name"
