"""Every ranker's logit of one row, by loops over Python floats, from the papers' formulas: what tests hold the rankers to.

`weights` are a ranker's tensors by name, `row` the ids of its fields; SIZES and PARAMS are the small shapes in use.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from components.rankers import RANKERS, RankerParams

SIZES = (3, 5, 4, 6)
WIDTH = 3
HIDDEN = (6, 4)
NUM_FIELDS = len(SIZES)
PAIRS = list(itertools.combinations(range(NUM_FIELDS), 2))
EPSILON = 1e-5

SHAPE = {"embedding_width": WIDTH, "hidden_widths": HIDDEN, "dropout": 0.5, "use_batch_norm": True}
EXTRAS: dict[str, Any] = {
    "order": 3,
    "attention_width": 4,
    "num_cross_layers": 2,
    "rank": 2,
    "num_experts": 3,
    "cin_widths": (5, 2),
    "num_attention_layers": 2,
    "num_heads": 2,
    "head_width": 3,
    "num_neurons": 5,
    "reduction": 2,
    "second_hidden_widths": (6,),
    "gate_width": 3,
    "network": "mlp*2(0); fm(0); crossnet*2(1); self_attention*2(0); product(3, 4); product(2, 5)",
    "mlp_tokens": 2,
}

Weights = dict[str, np.ndarray]
Vector = list[float]


def params_of(name: str, **changes: object) -> RankerParams:
    """The small shape of a ranker, with whatever its family needs to know."""
    kind = RANKERS[name].params_kind
    known = SHAPE | EXTRAS | changes
    return kind(**{field: known[field] for field in kind.__dataclass_fields__})


def dot(one: Iterable[float], other: Iterable[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def softmax(values: Sequence[float]) -> Vector:
    return [math.exp(value) / sum(math.exp(other) for other in values) for value in values]


def vectors(weights: Weights, row: Sequence[int], table: str = "embedding.table") -> list[Vector]:
    return [list(map(float, weights[table][sum(SIZES[:field]) + id_])) for field, id_ in enumerate(row)]


def flat(parts: Sequence[Sequence[float]]) -> Vector:
    return [value for part in parts for value in part]


def linear_unit(weights: Weights, name: str, x: Sequence[float]) -> Vector:
    matrix = weights[f"{name}.weight"]
    bias = weights.get(f"{name}.bias", np.zeros(len(matrix)))
    return [float(b) + dot(map(float, line), x) for line, b in zip(matrix, bias, strict=True)]


def normalised(weights: Weights, name: str, channel: int, value: float) -> float:
    mean, variance = (float(weights[f"{name}.running_{kind}"][channel]) for kind in ("mean", "var"))
    scale, shift = (float(weights[f"{name}.{kind}"][channel]) for kind in ("weight", "bias"))
    return (value - mean) / math.sqrt(variance + EPSILON) * scale + shift


def hidden(weights: Weights, name: str, x: Sequence[float], num_layers: int = len(HIDDEN)) -> Vector:
    for layer in range(num_layers):  # linear, batch norm, ReLU, dropout: four modules each
        z = linear_unit(weights, f"{name}.{4 * layer}", x)
        x = [max(0.0, normalised(weights, f"{name}.{4 * layer + 1}", unit, value)) for unit, value in enumerate(z)]
    return list(x)


def tower(weights: Weights, name: str, x: Sequence[float]) -> float:
    return linear_unit(weights, f"{name}.output", hidden(weights, f"{name}.hidden", x))[0]


def main_effects(weights: Weights, row: Sequence[int], name: str = "main.") -> float:
    return float(weights[f"{name}bias"][0]) + sum(flat(vectors(weights, row, f"{name}weights.table")))


def linear(weights: Weights, row: Sequence[int]) -> float:
    return main_effects(weights, row, "")


def mlp(weights: Weights, row: Sequence[int]) -> float:
    return linear_unit(weights, "output", hidden(weights, "hidden", flat(vectors(weights, row))))[0]


def pair_sum(x: list[Vector]) -> float:
    return sum(dot(x[i], x[j]) for i, j in PAIRS)


def fm(weights: Weights, row: Sequence[int]) -> float:
    return main_effects(weights, row) + pair_sum(vectors(weights, row))


def term_effects(weights: Weights, row: Sequence[int], terms: Sequence[Sequence[int]], name: str) -> float:
    total = sum(flat(vectors(weights, row, f"{name}main.table")))
    for weight, fields in zip(weights[f"{name}weights_t"], terms, strict=True):
        # One table for all terms of as many fields; it has rows for the ids of fields that are in one of them.
        table = weights[f"{name}embeddings.{len(fields)}.table"]
        of_order = sorted({field for term in terms if len(term) == len(fields) for field in term})
        starts = {field: sum(SIZES[other] for other in of_order if other < field) for field in of_order}
        factors = [table[starts[field] + row[field]] for field in fields]
        total += float(weight) * sum(math.prod(float(factor[place]) for factor in factors) for place in range(WIDTH))
    return total


def fwfm(weights: Weights, row: Sequence[int]) -> float:
    return float(weights["bias"][0]) + term_effects(weights, row, PAIRS, "terms.")


def ffm(weights: Weights, row: Sequence[int]) -> float:
    table = vectors(weights, row)

    def for_field(own: int, other: int) -> Vector:
        place = [field for field in range(NUM_FIELDS) if field != own].index(other)
        return table[own][place * WIDTH : (place + 1) * WIDTH]

    return main_effects(weights, row) + sum(dot(for_field(i, j), for_field(j, i)) for i, j in PAIRS)


def hofm(weights: Weights, row: Sequence[int]) -> float:
    table, total = vectors(weights, row), main_effects(weights, row)
    for degree in (2, 3):
        for chosen in itertools.combinations(range(NUM_FIELDS), degree):
            for place in range((degree - 2) * WIDTH, (degree - 1) * WIDTH):
                total += math.prod(table[field][place] for field in chosen)
    return total


def afm(weights: Weights, row: Sequence[int]) -> float:
    x = vectors(weights, row)
    products = [[a * b for a, b in zip(x[i], x[j], strict=True)] for i, j in PAIRS]
    scores = []
    for product in products:
        units = [max(0.0, z) for z in linear_unit(weights, "attention", product)]
        scores += linear_unit(weights, "importance", units)
    shares = softmax(scores)
    pooled = [sum(share * product[d] for share, product in zip(shares, products, strict=True)) for d in range(WIDTH)]
    return main_effects(weights, row) + linear_unit(weights, "output", pooled)[0]


def nfm(weights: Weights, row: Sequence[int]) -> float:
    x = vectors(weights, row)
    pooled = [sum(x[i][d] * x[j][d] for i, j in PAIRS) for d in range(WIDTH)]
    pooled = [normalised(weights, "norm", d, value) for d, value in enumerate(pooled)]
    return main_effects(weights, row) + tower(weights, "deep", pooled)


def pnn_inner(weights: Weights, row: Sequence[int]) -> float:
    x = vectors(weights, row)
    return tower(weights, "deep", flat(x) + [dot(x[i], x[j]) for i, j in PAIRS])


def pnn_outer(weights: Weights, row: Sequence[int]) -> float:
    x = vectors(weights, row)
    outer = [
        sum(x[i][a] * x[j][b] for i in range(NUM_FIELDS) for j in range(NUM_FIELDS))
        for a in range(WIDTH)
        for b in range(WIDTH)
    ]
    return tower(weights, "deep", flat(x) + outer)


def crossed(weights: Weights, layer: Callable[[str, Vector, Vector], Vector], x0: Vector) -> Vector:
    x = x0
    for number in range(EXTRAS["num_cross_layers"]):
        x = [a + b for a, b in zip(layer(f"crosses.{number}", x0, x), x, strict=True)]
    return x


def vector_layer(weights: Weights) -> Callable[[str, Vector, Vector], Vector]:
    def layer(name: str, x0: Vector, x: Vector) -> Vector:
        scalar = dot(map(float, weights[f"{name}.weight.weight"][0]), x)
        return [a * scalar + float(b) for a, b in zip(x0, weights[f"{name}.bias"], strict=True)]

    return layer


def matrix_layer(weights: Weights) -> Callable[[str, Vector, Vector], Vector]:
    return lambda name, x0, x: [a * z for a, z in zip(x0, linear_unit(weights, f"{name}.linear", x), strict=True)]


def mixture_layer(weights: Weights) -> Callable[[str, Vector, Vector], Vector]:
    rank, num_experts = 2, 3

    def layer(name: str, x0: Vector, x: Vector) -> Vector:
        gates = softmax(linear_unit(weights, f"{name}.gate", x))
        total = [0.0] * len(x)
        for expert in range(num_experts):
            rows = range(expert * rank, (expert + 1) * rank)
            low = [math.tanh(dot(weights[f"{name}.into.weight"][r].tolist(), x)) for r in rows]
            low = [math.tanh(dot(line.tolist(), low)) for line in weights[f"{name}.between"][expert]]
            for place in range(len(x)):
                back = sum(float(weights[f"{name}.back.weight"][place][r]) * z for r, z in zip(rows, low, strict=True))
                total[place] += gates[expert] * x0[place] * (back + float(weights[f"{name}.bias"][place]))
        return total

    return layer


def crossnet(weights: Weights, row: Sequence[int]) -> float:
    return linear_unit(weights, "output", crossed(weights, vector_layer(weights), flat(vectors(weights, row))))[0]


def deep_cross(
    make: Callable[[Weights], Callable[[str, Vector, Vector], Vector]],
) -> Callable[[Weights, Sequence[int]], float]:
    def logit(weights: Weights, row: Sequence[int]) -> float:
        x0 = flat(vectors(weights, row))
        return linear_unit(weights, "output", crossed(weights, make(weights), x0) + hidden(weights, "hidden", x0))[0]

    return logit


def cin(weights: Weights, row: Sequence[int]) -> float:
    x0 = vectors(weights, row)
    maps, read = x0, []
    for number in range(2):
        matrix = weights[f"interaction.layers.{number}.weight"]
        maps = [
            [
                sum(
                    float(line[h * NUM_FIELDS + f]) * maps[h][d] * x0[f][d]
                    for h in range(len(maps))
                    for f in range(NUM_FIELDS)
                )
                for d in range(WIDTH)
            ]
            for line in matrix
        ]
        read += [sum(vector) for vector in maps]
    return main_effects(weights, row) + linear_unit(weights, "output", read)[0]


def xdeepfm(weights: Weights, row: Sequence[int]) -> float:
    return cin(weights, row) + tower(weights, "deep", flat(vectors(weights, row)))


def attention_layer(weights: Weights, name: str, x: Sequence[Vector], heads: int, width: int) -> list[Vector]:
    projected = [linear_unit(weights, name, vector) for vector in x]
    query, key, value, residual = (
        [vector[part * heads * width : (part + 1) * heads * width] for vector in projected] for part in range(4)
    )
    following = []
    for f in range(len(x)):
        seen: Vector = []
        for head in range(heads):
            own = slice(head * width, (head + 1) * width)
            shares = softmax([dot(query[f][own], key[g][own]) for g in range(len(x))])
            seen += [sum(shares[g] * value[g][own][a] for g in range(len(x))) for a in range(width)]
        following.append([max(0.0, s + r) for s, r in zip(seen, residual[f], strict=True)])
    return following


def autoint(weights: Weights, row: Sequence[int]) -> float:
    x = vectors(weights, row)
    for number in range(2):
        x = attention_layer(weights, f"layers.{number}.projections", x, 2, 3)
    return linear_unit(weights, "output", flat(x))[0]


def autoint_plus(weights: Weights, row: Sequence[int]) -> float:
    return autoint(weights, row) + tower(weights, "deep", flat(vectors(weights, row)))


def afn(weights: Weights, row: Sequence[int]) -> float:
    x = vectors(weights, row)
    logs = [[normalised(weights, "log_norm", f, math.log(max(abs(v), 1e-5))) for v in x[f]] for f in range(NUM_FIELDS)]
    products = []
    for d in range(WIDTH):
        for neuron, (powers, bias) in enumerate(zip(weights["powers.weight"], weights["powers.bias"], strict=True)):
            product = math.exp(float(bias)) * math.prod(
                math.exp(logs[f][d]) ** float(powers[f]) for f in range(NUM_FIELDS)
            )
            products.append(normalised(weights, "exp_norm", neuron, product))
    return tower(weights, "over_products", products)


def afn_plus(weights: Weights, row: Sequence[int]) -> float:
    deep = tower(weights, "deep", flat(vectors(weights, row, "own_embedding.table")))
    return linear_unit(weights, "output", [afn(weights, row), deep])[0]


def wide_deep(weights: Weights, row: Sequence[int]) -> float:
    return main_effects(weights, row) + tower(weights, "deep", flat(vectors(weights, row)))


def deepfm(weights: Weights, row: Sequence[int]) -> float:
    return wide_deep(weights, row) + pair_sum(vectors(weights, row))


def fibinet(matrix_of: Callable[[np.ndarray, int, int, int], np.ndarray]) -> Callable[[Weights, Sequence[int]], float]:
    def logit(weights: Weights, row: Sequence[int]) -> float:
        x = vectors(weights, row)
        squeezed = [max(0.0, z) for z in linear_unit(weights, "senet.squeeze", [sum(v) / WIDTH for v in x])]
        gates = [max(0.0, z) for z in linear_unit(weights, "senet.excite", squeezed)]
        weighed = [[gate * value for value in vector] for gate, vector in zip(gates, x, strict=True)]
        joined: Vector = []
        for vectors_now, name in ((x, "plain"), (weighed, "weighed")):
            for number, (i, j) in enumerate(PAIRS):
                matrix = matrix_of(weights[name], i, j, number)
                joined += [
                    sum(vectors_now[i][a] * float(matrix[a][b]) for a in range(WIDTH)) * vectors_now[j][b]
                    for b in range(WIDTH)
                ]
        return main_effects(weights, row) + tower(weights, "deep", joined)

    return logit


def dlrm(weights: Weights, row: Sequence[int]) -> float:
    x = vectors(weights, row)
    return tower(weights, "deep", [dot(x[i], x[j]) for i, j in PAIRS])


def finalmlp(weights: Weights, row: Sequence[int]) -> float:
    x = flat(vectors(weights, row))
    streams = []
    for name, num_layers in (("first", 2), ("second", 1)):
        inner = [
            max(0.0, z) for z in linear_unit(weights, f"{name}_gate.inner", weights[f"{name}_gate.context"].tolist())
        ]
        gates = [2 * sigmoid(z) for z in linear_unit(weights, f"{name}_gate.outer", inner)]
        streams.append(hidden(weights, name, [gate * value for gate, value in zip(gates, x, strict=True)], num_layers))
    first, second = streams
    heads = EXTRAS["num_heads"]
    total = linear_unit(weights, "output", first + second)[0]
    for head in range(heads):
        wide, high = len(first) // heads, len(second) // heads
        for a in range(wide):
            for b in range(high):
                total += first[head * wide + a] * float(weights["bilinear"][head][a][b]) * second[head * high + b]
    return total


def autorec(weights: Weights, row: Sequence[int]) -> float:
    """EXTRAS' network: mlp*2(0); fm(0); crossnet*2(1); self_attention*2(0); product(3, 4); product(2, 5)."""

    def tokens(values: Sequence[float]) -> list[Vector]:
        return [list(values[start : start + WIDTH]) for start in range(0, len(values), WIDTH)]

    def mixed(name: str, x: list[Vector]) -> list[Vector]:
        return [[dot(map(float, line), (one[d] for one in x)) for d in range(WIDTH)] for line in weights[name]]

    fields = vectors(weights, row)
    first = tokens(hidden(weights, "blocks.0.hidden", flat(fields)))
    second = [sum(fields[i][d] * fields[j][d] for i, j in PAIRS) for d in range(WIDTH)]
    flat_first = flat(first)
    crossing = flat_first
    for layer in range(2):
        (scale,) = linear_unit(weights, f"blocks.2.crosses.{layer}.weight", crossing)
        bias = weights[f"blocks.2.crosses.{layer}.bias"]
        crossing = [x0 * scale + float(b) + x for x0, b, x in zip(flat_first, bias, crossing, strict=True)]
    attended = fields
    for layer in range(2):
        attended = attention_layer(weights, f"blocks.3.{layer}.projections", attended, 1, WIDTH)
    # Two tokens and four: the four are mixed down to two; then one and two.
    fifth = [
        [a * b for a, b in zip(one, other, strict=True)]
        for one, other in zip(tokens(crossing), mixed("blocks.4.mix.weight", attended), strict=True)
    ]
    (sixth,) = mixed("blocks.5.mix.weight", fifth)
    (logit,) = linear_unit(weights, "output", [a * b for a, b in zip(second, sixth, strict=True)])
    return logit


BY_HAND: dict[str, Callable[[Weights, Sequence[int]], float]] = {
    "linear": linear,
    "fm": fm,
    "fwfm": fwfm,
    "ffm": ffm,
    "hofm": hofm,
    "afm": afm,
    "nfm": nfm,
    "pnn_inner": pnn_inner,
    "pnn_outer": pnn_outer,
    "crossnet": crossnet,
    "dcn": deep_cross(vector_layer),
    "dcnv2": deep_cross(matrix_layer),
    "dcnv2_mixture": deep_cross(mixture_layer),
    "cin": cin,
    "xdeepfm": xdeepfm,
    "autoint": autoint,
    "autoint_plus": autoint_plus,
    "afn": afn,
    "afn_plus": afn_plus,
    "wide_deep": wide_deep,
    "deepfm": deepfm,
    "fibinet_all": fibinet(lambda matrices, i, j, number: matrices),
    "fibinet_each": fibinet(lambda matrices, i, j, number: matrices[i]),
    "fibinet_interaction": fibinet(lambda matrices, i, j, number: matrices[number]),
    "dlrm": dlrm,
    "mlp": mlp,
    "finalmlp": finalmlp,
    "autorec": autorec,
}
