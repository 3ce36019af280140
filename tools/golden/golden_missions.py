"""Write agents/tests/golden/missions.json: missions of BabyAI with the tokens that transformers' GPT-2 tokenizer makes of them,
and whole observations as JAT reads them: direction, image, and the mission padded behind.

    python tools/golden/golden_missions.py tests/golden/parity/jat-3 > agents/tests/golden/missions.json
"""

import argparse
import json
from pathlib import Path

import envpool
import transformers

# Ids of an observation of the published policy.
WIDTH = 212

# What missions do not hold, and the tokenizer cuts all the same.
OTHERS = ["", " ", "Go to the RED ball!", "it's 2 o'clock", "naïve – 日本", "a\tb\n\nc  d", "12345 67", "don't, can't; they'll"]


def levels():
    """EnvPool's ids of JAT's levels."""
    table = Path(__file__).parents[2] / "src/policies/jat_tasks.tsv"
    rows = [line.split("\t") for line in table.read_text().splitlines()]
    return [row[1].removeprefix("envpool:") for row in rows if row[0].startswith("babyai-")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", help="a folder with the tokenizer's files")
    tokenizer = transformers.GPT2TokenizerFast.from_pretrained(parser.parse_args().policy)
    texts, observations = dict.fromkeys(OTHERS), []
    for seed, level in enumerate(levels()):
        env = envpool.make(level, env_type="gymnasium", num_envs=3, seed=seed)
        shown, _ = env.reset()
        missions = [bytes(mission).rstrip(b"\0").decode() for mission in shown["mission"]]
        texts |= dict.fromkeys(missions)
        if seed % 13 == 0:
            direction, image = int(shown["direction"][0]), shown["image"][0].flatten().tolist()
            ids = [direction, *image, *tokenizer(missions[0]).input_ids]
            ids += [tokenizer.pad_token_id] * (WIDTH - len(ids))
            observations.append({"direction": direction, "image": image, "mission": missions[0], "ids": ids})
    cases = [{"text": text, "tokens": tokenizer(text).input_ids} for text in texts]
    print("{")
    for key, rows, end in [("missions", cases, ","), ("observations", observations, "")]:
        print(f'"{key}": [', ",\n".join(json.dumps(row) for row in rows), f"]{end}", sep="\n")
    print("}")


if __name__ == "__main__":
    main()
