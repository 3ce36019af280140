#!/bin/sh
# Collects demonstrations of BabyAI's bot: babyai_data.sh PROGRAM EPISODES SEED LEVEL... A level that is there stays.
set -e
program=$1 episodes=$2 seed=$3
shift 3
for level; do
    [ -d "datasets/babyai/$level" ] || "$program" collect --env "gymnasium:minigrid:BabyAI-$level-v0" \
        --env-kwarg max_episode_steps=128 --policy scripted --noise 0 --episodes "$episodes" --num-envs 32 --seed "$seed" \
        --out "datasets/babyai/$level"
done
