from collections.abc import Callable

from torch import Tensor

class Found:
    index: int
    rank: int
    explained: list[float]
    cosine: float
    components: Tensor | None

class Search:
    def __init__(
        self,
        sites: list[tuple[str, int]],
        *,
        rho: float,
        tau: float,
        whiten: bool,
        solver_name: str,
        energy: float | None,
        batches_per_pass: int | None,
        device: tuple[str, int],
        all_reduce: tuple[int, int, Callable[[Tensor], None]] | None,
    ) -> None: ...
    def add_input(self, site: int, width: int, of_patches: bool) -> None: ...
    def join_input(self, known: int, site: int) -> None: ...
    def record(self, site: int, rows: Tensor) -> None: ...
    def end_batch(self) -> tuple[int, float, bool]: ...
    def finish(self) -> list[Found]: ...
