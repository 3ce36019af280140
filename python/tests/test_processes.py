"""Two processes of torch.distributed, with gloo: what they find together."""

import sys

import pytest
import torch
import torch.distributed as dist
from models import Counted, exact_directions, llama, rms_sine
from torch import multiprocessing

from eva_rl import get_eva_state_dict


def work(rank, folder, shared):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/{shared}", rank=rank, world_size=2)
    torch.manual_seed(0)
    case = llama()
    own = case.batches[:7] if rank == 0 else case.batches[7:]  # 7 and 5
    sent = []
    gather, all_gather = dist.all_gather, dist.all_reduce
    dist.all_gather = lambda *_, **__: sent.append("gather")
    dist.all_reduce = lambda x, *args, **more: (sent.append(x.numel()), all_gather(x, *args, **more))[1]
    counted = Counted()
    found = get_eva_state_dict(
        case.model, own, case.config(tau=1.0), forward_fn=counted, show_progress_bar=False,
        gather_distributed_inputs=shared,
    )  # fmt: skip
    dist.all_gather, dist.all_reduce = gather, all_gather
    torch.save({"found": dict(found), "sent": sent, "calls": counted.calls}, f"{folder}/{shared}-{rank}.pt")
    dist.destroy_process_group()


def run(folder, shared):
    multiprocessing.spawn(work, args=(str(folder), shared), nprocs=2)
    return [torch.load(folder / f"{shared}-{rank}.pt") for rank in (0, 1)]


@pytest.mark.skipif(not dist.is_gloo_available(), reason="this PyTorch has no gloo")
def test_processes_find_the_directions_of_all_their_rows_and_send_sums_alone(tmp_path):
    sys.stdout.flush()
    first, second = run(tmp_path, True)
    exact = exact_directions(llama())
    assert rms_sine(first["found"], exact) < 0.003
    for name, down in first["found"].items():
        assert torch.equal(down, second["found"][name])
    assert [first["calls"], second["calls"]] == [7, 6], "the first batch is the first process's on both"
    assert "gather" not in first["sent"]
    # Once, at the end: two halves of a matrix and some numbers for each of eight inputs.
    widths = [32, 32, 32, 64] * 2
    assert sum(first["sent"]) == sum(2 * (width * width + width + 2) for width in widths) + 1


def test_processes_that_share_nothing_find_their_own_directions(tmp_path):
    first, second = run(tmp_path, False)
    case = llama()
    for found, batches in [(first, case.batches[:7]), (second, case.batches[7:])]:
        assert rms_sine(found["found"], exact_directions(case, batches)) < 0.003
        assert found["calls"] == len(batches)
    assert first["sent"] == []
