"""Hand-made rankers, one file a family; the name in RANKERS is the name in params and artifacts."""

from __future__ import annotations

from components.errors import CtrError
from components.rankers.attention import AttentionAndTower, AttentionNetwork
from components.rankers.attentional import AttentionalFactorizationMachine
from components.rankers.autorec import BlockNetwork
from components.rankers.bilinear import BilinearAll, BilinearEach, BilinearInteraction
from components.rankers.compressed import CompressedNetwork, ExtremeDeepFactorizationMachine
from components.rankers.cross import CrossNetwork, DeepAndCross, DeepAndCross2, DeepAndCross2Mixture
from components.rankers.dlrm import DotProductRanker
from components.rankers.factorization import (
    FactorizationMachine,
    FieldAwareFactorizationMachine,
    HigherOrderFactorizationMachine,
)
from components.rankers.linear import Linear
from components.rankers.logarithmic import LogarithmicAndTower, LogarithmicNetwork
from components.rankers.neural_factorization import NeuralFactorizationMachine
from components.rankers.perceptron import Perceptron
from components.rankers.product import InnerProductNetwork, OuterProductNetwork
from components.rankers.ranker import FieldEmbedding, Ranker, RankerParams
from components.rankers.terms import FieldWeightedFactorizationMachine
from components.rankers.two_stream import TwoStreams
from components.rankers.wide import DeepFactorizationMachine, WideAndDeep
from components.strict import parse

RANKERS: dict[str, type[Ranker]] = {
    "linear": Linear,
    "fm": FactorizationMachine,
    "fwfm": FieldWeightedFactorizationMachine,
    "ffm": FieldAwareFactorizationMachine,
    "hofm": HigherOrderFactorizationMachine,
    "afm": AttentionalFactorizationMachine,
    "nfm": NeuralFactorizationMachine,
    "pnn_inner": InnerProductNetwork,
    "pnn_outer": OuterProductNetwork,
    "crossnet": CrossNetwork,
    "dcn": DeepAndCross,
    "dcnv2": DeepAndCross2,
    "dcnv2_mixture": DeepAndCross2Mixture,
    "cin": CompressedNetwork,
    "xdeepfm": ExtremeDeepFactorizationMachine,
    "autoint": AttentionNetwork,
    "autoint_plus": AttentionAndTower,
    "afn": LogarithmicNetwork,
    "afn_plus": LogarithmicAndTower,
    "wide_deep": WideAndDeep,
    "deepfm": DeepFactorizationMachine,
    "fibinet_all": BilinearAll,
    "fibinet_each": BilinearEach,
    "fibinet_interaction": BilinearInteraction,
    "dlrm": DotProductRanker,
    "mlp": Perceptron,
    "finalmlp": TwoStreams,
    "autorec": BlockNetwork,
}


def parse_ranker_params(name: str, content: object, where: str, error_class: type[CtrError]) -> RankerParams:
    """Read the params of one ranker as the class that its family needs; a name that is none's is read as the plain one."""
    kind = RANKERS[name].params_kind if name in RANKERS else RankerParams
    return parse(kind, content, where, error_class)


__all__ = ["RANKERS", "FieldEmbedding", "Ranker", "RankerParams", "parse_ranker_params"]
