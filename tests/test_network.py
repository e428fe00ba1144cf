"""The found network is its architecture and nothing else, counts itself rightly, and can be served."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from components.autopi.architecture import Architecture
from components.autopi.network import FoundNetwork
from components.autopi.operators import OPERATORS
from components.compiling import learn_by_kernels
from components.errors import ConfigError
from components.rankers.ranker import RankerParams
from tests.plain_supernet import NOT_RECTIFIED, PLAIN
from tests.search_world import WAYS, needs_compiler

FIELD_SIZES = (5, 6, 7)
PARAMS = RankerParams(embedding_width=4, hidden_widths=(), dropout=0.0, use_batch_norm=True)
ALL_OPERATORS = (
    "3 fields | interaction fm(0) senet(0)+self_attention(1) | "
    "ensemble single_layer_perceptron(0)+skip(1) convolution_1d(1)+fm(2)"
)

FURTHER_OPERATORS = (
    "3 normalised fields | interaction skip(0) gate(0)+outer_product(1) | "
    "ensemble hadamard_product(0)+cross_layer(1) two_layer_perceptron(0)+logarithmic_layer(1)+convolution_2d(2)"
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)


def network(line: str = ALL_OPERATORS, params: RankerParams = PARAMS) -> FoundNetwork:
    return FoundNetwork(FIELD_SIZES, Architecture.from_text(line, "here"), params)


def rows(count: int) -> torch.Tensor:
    return torch.stack([torch.randint(0, size, (count,)) for size in FIELD_SIZES], 1).int()


def plain_logits(found: FoundNetwork, line: str, ids: torch.Tensor) -> torch.Tensor:
    """The same network once more, the batch first, from the reference's operators and torch's batch norm."""
    architecture = Architecture.from_text(line, "here")
    fields, width = len(FIELD_SIZES), found.embedding_1.width
    kept = {"interaction": found.interaction, "ensemble": found.ensemble}
    norms: list[torch.nn.Module] = []
    for theirs in (found.norm_1, found.norm_2):
        if not architecture.is_normalised:
            norms.append(torch.nn.Identity())
            continue
        norms.append(torch.nn.BatchNorm1d(fields, 1e-10, affine=False).double())
        norms[-1].load_state_dict(theirs.norm.state_dict())
        norms[-1].train(found.training)
    inputs = [norms[0](found.embedding_1(ids))]
    for name, cell in architecture.cells():
        nodes = list(inputs)
        for edges, modules in zip(cell.nodes, kept[name].nodes, strict=True):
            total = torch.zeros_like(nodes[0])
            for edge, module in zip(edges, modules, strict=True):
                operator = PLAIN[edge.operator](fields, width).double()
                for mine, theirs in zip(operator.parameters(), module.operator.parameters(), strict=True):
                    mine.data = theirs.data.reshape(mine.shape)
                y = operator(nodes[edge.source])
                y = y if edge.operator in NOT_RECTIFIED else torch.relu(y)
                norm = torch.nn.BatchNorm1d(fields).double()
                norm.load_state_dict(module.norm.state_dict())
                total = total + norm.train(found.training)(y)
            nodes.append(total)
        last = torch.cat(nodes[len(inputs) :], 1)
        if name == "interaction":
            joined = torch.einsum("fg,bgd->bfd", found.join_weight, last) + found.join_bias
            inputs = [joined, norms[1](found.embedding_2(ids))]
    return found.output(last.flatten(1))[:, 0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("line", [ALL_OPERATORS, ALL_OPERATORS.replace("fields", "normalised fields")])
def test_the_network_is_its_architecture(line: str, is_training: bool, way: str) -> None:
    found = network(line).double()
    if way == "compiled":
        learn_by_kernels(found)
    for module in found.modules():
        if isinstance(module, torch.nn.BatchNorm1d) and module.affine:
            torch.nn.init.uniform_(module.weight)
            torch.nn.init.uniform_(module.bias)
    found(rows(40))
    found.train(is_training)
    ids = rows(9)
    torch.testing.assert_close(plain_logits(found, line, ids), found(ids))


@needs_compiler
@pytest.mark.parametrize("use_batch_norm", [True, False])
@pytest.mark.parametrize("line", [ALL_OPERATORS, FURTHER_OPERATORS])
def test_kernels_change_nothing_but_the_work(line: str, use_batch_norm: bool) -> None:
    params = RankerParams(4, hidden_widths=(5,), dropout=0.2, use_batch_norm=use_batch_norm)
    plain = network(line, params).double().train()
    compiled = copy.deepcopy(plain)
    learn_by_kernels(compiled)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    for step in range(3):
        ids, results = rows(70), []
        for found in (plain, compiled):
            torch.manual_seed(step)
            logits = found(ids)
            found.zero_grad()
            (logits * torch.arange(70)).sum().backward()
            results.append([logits.detach(), *(one.grad for one in found.parameters()), *found.buffers()])
        for own, other in zip(*results, strict=True):
            torch.testing.assert_close(own, other, rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(compiled.eval()(ids), plain.eval()(ids))


@pytest.mark.parametrize("operator", ["fm", "senet", "hadamard_product", "cross_layer"])
def test_a_product_outlives_embeddings_that_a_penalty_has_shrunk(operator: str) -> None:
    """Tables of a few thousandths, as L2 leaves them: without normalised inputs these products are 1e-5 and less."""
    found = network(f"3 normalised fields | interaction {operator}(0) | ensemble {operator}(0)+{operator}(1)")
    with torch.no_grad():
        for table in found.embedding_parameters():
            table.normal_(std=0.003)
    ids = rows(200)
    first = found.norm_1(found.embedding_1(ids).permute(1, 2, 0).contiguous())
    (y_fdb,) = found.interaction([first])
    assert float(y_fdb.detach().std(dim=(1, 2)).min()) > 0.5 or operator == "senet"
    assert float(y_fdb.detach().std()) > 0.5
    scale = 1000.0
    logits = found(ids).detach()
    with torch.no_grad():
        for table in found.embedding_parameters():
            table.mul_(scale)
    torch.testing.assert_close(found(ids).detach(), logits, atol=1e-3, rtol=1e-3)


def test_one_row_alone_scores_as_among_others() -> None:
    found = network()
    found(rows(50))
    found.eval()
    ids = rows(6)
    alone = torch.cat([found(ids[row : row + 1]) for row in range(6)])
    torch.testing.assert_close(alone, found(ids))


def test_every_parameter_learns() -> None:
    found = network()
    found(rows(60)).square().sum().backward()
    for name, parameter in found.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name


def test_parameters_and_flops_are_those_counted_by_hand() -> None:
    found = network()
    norms = 7 * 2 * 3  # scale and shift of three fields on seven edges
    senet, attention, perceptron, convolution = 3 + 3, 3 * 16, 12 * 12 + 12, 9 + 3
    join, output = 3 * 6 + 3, 2 * 12 + 1
    assert found.count_parameters() == norms + senet + attention + perceptron + convolution + join + output
    fm, senet, attention = 36, 12 + 6 + 6 + 12, 3 * 2 * 3 * 16 + 2 * 2 * 9 * 4 + 27
    perceptron, convolution = 2 * 144 + 12, 2 * 9 * 4 + 12
    operators = fm + senet + attention + perceptron + convolution + fm
    sums = 3 * 12  # three of the four nodes have two edges
    join, output = 2 * 3 * 6 * 4 + 12, 2 * 24
    assert found.count_flops() == operators + 7 * 2 * 12 + sums + join + output
    normalised = network(ALL_OPERATORS.replace("fields", "normalised fields"))
    assert normalised.count_flops() == found.count_flops() + 2 * 2 * 12  # both embeddings to mean 0 and variance 1


def test_a_head_is_counted_and_learns_like_the_rest() -> None:
    plain, headed = network(), network(params=RankerParams(4, (5, 3), 0.0, True))
    # Two nodes of 12 numbers into 5, 5 into 3, 3 into the logit; batch norm has scale and shift, which stand for a bias.
    head, output = (24 * 5 + 10) + (5 * 3 + 6), 3 + 1
    assert headed.count_parameters() == plain.count_parameters() - 25 + head + output
    assert headed.count_flops() == plain.count_flops() - 48 + (240 + 10) + (30 + 6) + 6
    headed(rows(60)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in headed.parameters())
    headed.eval()
    ids = rows(5)
    torch.testing.assert_close(headed(ids)[2:3], headed(ids[2:3]))


def test_terms_are_added_to_what_the_cells_say() -> None:
    ids = rows(40)
    torch.manual_seed(3)
    plain = network()
    torch.manual_seed(3)
    both = network(f"{ALL_OPERATORS} | terms 0x2 0x1x2")
    assert both.terms is not None
    torch.testing.assert_close(both(ids), plain(ids) + both.terms(ids))
    assert float(both.terms(ids).detach().std()) > 0.01
    tables, weights = both.term_parameters()
    assert [tuple(one.shape) for one in (*tables, *weights)] == [(18, 1), (12, 4), (18, 4), (2,)]
    assert plain.term_parameters() == ([], [])
    # Three main effects; a product of two and one of three, summed over four dimensions, weighted; two sums and the last one.
    pair, triple = 4 + 3 + 1, 2 * 4 + 3 + 1
    assert both.count_flops() == plain.count_flops() + (3 - 1) + pair + triple + 2 + 1
    assert both.count_parameters() == plain.count_parameters() + 2


def test_embeddings_are_told_from_the_other_parameters() -> None:
    found = network()
    assert [tuple(table.shape) for table in found.embedding_parameters()] == [(18, 4), (18, 4)]


def test_without_batch_norm_there_is_none() -> None:
    found = network(params=RankerParams(4, (), 0.0, False))
    assert not any(isinstance(module, torch.nn.BatchNorm1d) for module in found.modules())
    assert bool(torch.isfinite(found(rows(3))).all())


def test_dropout_acts_in_training_only() -> None:
    found = network(params=RankerParams(4, (), 0.5, True))
    ids = rows(20)
    found(ids)
    assert not torch.equal(found(ids), found(ids))
    found.eval()
    assert torch.equal(found(ids), found(ids))


def test_an_architecture_for_other_fields_is_refused() -> None:
    with pytest.raises(ConfigError, match="is for 4 fields, this log has 3"):
        network(ALL_OPERATORS.replace("3 fields", "4 fields"))


def test_an_unknown_operator_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"operators \['magic'\] are unknown"):
        network(ALL_OPERATORS.replace("senet", "magic"))


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_can_be_a_network_of_its_own(name: str) -> None:
    found = network(f"3 fields | interaction {name}(0) | ensemble {name}(0)+{name}(1)")
    found(rows(20)).sum().backward()
    assert all(parameter.grad is not None for parameter in found.parameters())


@pytest.mark.parametrize(
    "line",
    [
        ALL_OPERATORS,
        "3 fields | interaction logarithmic_layer(0) | ensemble convolution_2d(0)+convolution_2d(1) gate(0)+cross_layer(1)",
        "3 fields | interaction skip(0) | ensemble skip(0)+skip(1) | terms 0x1 1x2 0x1x2",
    ],
)
def test_the_exported_network_gives_the_same_logits_for_any_number_of_rows(line: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    found = network(line)
    for _ in range(20):
        found(rows(50))
    found.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            found, (rows(3),), dynamo=True, dynamic_shapes=({0: torch.export.Dim("rows")},), verbose=False
        )
    assert program is not None
    program.save(tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 2, 100):
        ids = rows(count)
        (logits,) = session.run(None, {session.get_inputs()[0].name: ids.numpy()})
        np.testing.assert_allclose(logits, found(ids).detach().numpy(), rtol=1e-4, atol=1e-5)
