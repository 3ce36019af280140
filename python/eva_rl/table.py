"""What EVA found at each module, as a value and as a table for people."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ModuleRank:
    """One module's line."""

    name: str
    #: 0 where it gets no adapter.
    rank: int
    #: The rank that the config gives it.
    configured: int
    #: Shares of the module's variance that each candidate component explains, descending.
    explained: tuple[float, ...]
    #: Estimated root mean square cosine of its components to those of all the data; 1 where all was seen.
    cosine: float

    @property
    def explained_variance(self) -> float:
        """Share of the module's variance that its adapter's components explain together."""
        return sum(self.explained[: self.rank])


@dataclass(frozen=True)
class RankTable:
    """What EVA found at every module, in the model's order."""

    modules: tuple[ModuleRank, ...]
    #: Batches that were seen.
    batches: int
    #: Whether the components have converged, or all data was seen.
    converged: bool

    def __str__(self) -> str:
        width = max([len("module"), *(len(module.name) for module in self.modules)])
        lines = [f"{'module':{width}}  rank  explained  cosine  first components"]
        for module in self.modules:
            first = " ".join(f"{share:.3f}" for share in module.explained[:4])
            lines.append(
                f"{module.name:{width}}  {module.rank:4}  {module.explained_variance:9.1%}  {module.cosine:6.3f}  {first}"
            )
        ranks = sum(module.rank for module in self.modules)
        end = "" if self.converged else ", not yet converged"
        lines.append(f"{self.batches} batches{end}; {len(self.modules)} modules, ranks {ranks} in all")
        return "\n".join(lines)


class EvaStateDict(dict[str, torch.Tensor]):
    """A of every module by its name, and the table of what was found."""

    def __init__(self, components: dict[str, torch.Tensor], table: RankTable):
        super().__init__(components)
        self.table = table
