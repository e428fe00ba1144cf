"""FuxiCTR's side of `bench train`, run by an interpreter that has it; imports nothing of this project.

Its wheel holds the layers and the training step but not the models of its model zoo; DeepFM and DCN-V2 are put together
here from those layers as the zoo does, with the public boards' setting for Frappe (3 x 400, batch norm, dropout 0.2,
width 10, three cross layers, embedding L2 0.1, Adam).
"""

# mypy: ignore-errors

import json
import sys
import time
from collections import OrderedDict

import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import CrossNetV2, FactorizationMachine, FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel
from torch import nn

FIELD_SIZES = (956, 4084, 9, 9, 4, 5, 4, 11, 82, 235)
BATCH_ROWS = 4096
STEPS = 3
HIDDEN = [400, 400, 400]
TOWER = {"hidden_units": HIDDEN, "hidden_activations": "ReLU", "dropout_rates": 0.2, "batch_norm": True}
BASE = {"gpu": -1, "embedding_regularizer": 0.1, "verbose": 0, "model_root": "unused", "metrics": ["AUC"]}


class DeepFM(BaseModel):
    """Factorization machine and tower over the same embeddings."""

    def __init__(self, feature_map):
        super().__init__(feature_map, **BASE)
        self.embedding_layer = FeatureEmbedding(feature_map, 10)
        self.fm = FactorizationMachine(feature_map)
        self.mlp = MLP_Block(input_dim=10 * len(FIELD_SIZES), output_dim=1, output_activation=None, **TOWER)
        self.compile("adam", "binary_crossentropy", 1e-3)
        self.reset_parameters()

    def forward(self, inputs):
        """Give y_pred."""
        x = self.get_inputs(inputs)
        embeddings = self.embedding_layer(x)
        y_pred = self.fm(x, embeddings) + self.mlp(embeddings.flatten(start_dim=1))
        return {"y_pred": self.output_activation(y_pred)}


class DCNv2(BaseModel):
    """Full-matrix cross network beside a tower."""

    def __init__(self, feature_map):
        super().__init__(feature_map, **BASE)
        width = 10 * len(FIELD_SIZES)
        self.embedding_layer = FeatureEmbedding(feature_map, 10)
        self.crossnet = CrossNetV2(width, 3)
        self.mlp = MLP_Block(input_dim=width, output_dim=None, output_activation=None, **TOWER)
        self.fc = nn.Linear(width + HIDDEN[-1], 1)
        self.compile("adam", "binary_crossentropy", 1e-3)
        self.reset_parameters()

    def forward(self, inputs):
        """Give y_pred."""
        flat = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        y_pred = self.fc(torch.cat([self.crossnet(flat), self.mlp(flat)], dim=-1))
        return {"y_pred": self.output_activation(y_pred)}


def feature_map():
    """Frappe's ten fields."""
    made = FeatureMap("frappe", ".")
    made.features = OrderedDict(
        (f"f{place}", {"source": "", "type": "categorical", "vocab_size": size, "padding_idx": 0})
        for place, size in enumerate(FIELD_SIZES)
    )
    made.labels = ["click"]
    made.num_fields = len(FIELD_SIZES)
    made.total_features = sum(FIELD_SIZES)
    made.input_length = len(FIELD_SIZES)
    made.default_emb_dim = 10
    return made


def main():
    """Answer each model's name on stdin with the seconds of its steps."""
    torch.manual_seed(1)
    batch = {f"f{place}": torch.randint(1, size, (BATCH_ROWS,)) for place, size in enumerate(FIELD_SIZES)}
    batch["click"] = torch.rand(BATCH_ROWS).round()
    built = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in built:
            built[name] = {"deepfm": DeepFM, "dcnv2": DCNv2}[name](feature_map())
            built[name]._max_gradient_norm = 10.0
            built[name].train()
        started = time.perf_counter()
        for _ in range(STEPS):
            built[name].train_step(batch)
        print(json.dumps(time.perf_counter() - started), flush=True)


if __name__ == "__main__":
    main()
