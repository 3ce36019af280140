"""Make policy folders of a parity folder of L2M and LRAM: `OUT/l2m` and `OUT/lram`, each with `config.json` and `model.pth`.

Their projects publish no format, so this shows the keys that eva-rl asks for; what the tensors' shapes say is left out.

    python tools/golden/l2m_policy.py FIXTURE OUT
"""

import argparse
import json
import shutil
from pathlib import Path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixture", type=Path, help="a folder with meta.json, l2m.pth and lram.pth")
    parser.add_argument("out", type=Path, help="where the two folders go")
    args = parser.parse_args()
    variant = json.loads((args.fixture / "meta.json").read_text())["variant"]
    for family in ["l2m", "lram"]:
        is_lram = family == "lram"
        config = {
            "model_type": family,
            "n_head": variant["heads"],
            "act_dim": variant["act"],
            "action_channels": variant["bins"],
            "discrete_actions": variant["disc"],
            "max_length": variant["lram_ctx" if is_lram else "ctx"],
            "global_pos_embds": is_lram and variant["lram_pos"],
            "use_fast_attn": False,
        }
        folder = args.out / family
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        shutil.copyfile(args.fixture / f"{family}.pth", folder / "model.pth")


if __name__ == "__main__":
    main()
