"""The readers as PyTorch and transformers have them, made from a model directory's config.json.

Linear head: RobertaForQuestionAnswering or BertForQuestionAnswering as they are.  BiLSTM head: the
module of the 2021 study, whose state_dict names are transformer.*, lstm.*, qa_head.*; its encoder
comes with the pooler that nothing uses.  The other heads are that module with other layers.
"""
import json
import os

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import (BertConfig, BertForQuestionAnswering, BertModel, RobertaConfig,
                          RobertaForQuestionAnswering, RobertaModel)

KINDS = {
    "roberta": (RobertaConfig, RobertaForQuestionAnswering, RobertaModel),
    "bert": (BertConfig, BertForQuestionAnswering, BertModel),
}


class HeadReader(nn.Module):
    """lstm.* is the study's; gru.*, mlp.* and conv.* stand in the same place.  Linear and Conv1d
    layers are each followed by GELU; dropout is between layers."""

    def __init__(self, config, encoder, head):
        super().__init__()
        layers, hidden, self.kind = head["num_layers"], head["hidden_size"], head["type"]
        sizes = [config.hidden_size] + [hidden] * layers
        self.transformer = encoder(config, add_pooling_layer=True)
        self.drop = nn.Dropout(head["dropout"])
        rnn = {"num_layers": layers, "dropout": head["dropout"] if layers > 1 else 0.0,
               "bidirectional": True, "batch_first": True}
        if self.kind == "bilstm":
            self.lstm = nn.LSTM(config.hidden_size, hidden, **rnn)
        elif self.kind == "bigru":
            self.gru = nn.GRU(config.hidden_size, hidden, **rnn)
        elif self.kind == "mlp":
            self.mlp = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        elif self.kind == "conv1d":
            k = head["kernel_size"]
            self.conv = nn.ModuleList(nn.Conv1d(a, b, k, padding=k // 2)
                                      for a, b in zip(sizes, sizes[1:]))
        else:
            raise SystemExit(f"mrc_head type {self.kind!r} is none of bilstm, bigru, mlp, conv1d")
        self.qa_head = nn.Linear(hidden * (2 if self.kind in ("bilstm", "bigru") else 1), 2)

    def layers(self, h):
        if self.kind == "bilstm":
            return self.lstm(h)[0]
        if self.kind == "bigru":
            return self.gru(h)[0]
        maps = self.mlp if self.kind == "mlp" else self.conv
        for i, layer in enumerate(maps):
            if i:
                h = self.drop(h)
            h = layer(h) if self.kind == "mlp" else layer(h.transpose(1, 2)).transpose(1, 2)
            h = nn.functional.gelu(h)
        return h

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, position_ids=None):
        """As the study: the head runs over whatever the encoder saw, pads included."""
        out = self.transformer(input_ids, attention_mask=attention_mask,
                               token_type_ids=token_type_ids, position_ids=position_ids,
                               output_hidden_states=True)
        h = self.layers(out.last_hidden_state)
        start, end = self.qa_head(h).unbind(-1)
        return {"start_logits": start, "end_logits": end, "hidden_states": out.hidden_states,
                "lstm": h}


class LinearReader(nn.Module):
    """transformers' module; only the output is made equal to the other head's."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, position_ids=None):
        out = self.module(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids,
                          position_ids=position_ids, output_hidden_states=True)
        return {"start_logits": out.start_logits, "end_logits": out.end_logits,
                "hidden_states": out.hidden_states}


def new_reader(config):
    """config: config.json as a dict.  Returns (callable, module): the module's state_dict is the
    file's."""
    if config.get("model_type") not in KINDS:
        raise SystemExit(f"model_type {config.get('model_type')!r} is neither of {list(KINDS)}")
    config_type, with_head, encoder = KINDS[config["model_type"]]
    head = config.get("mrc_head")
    hf = config_type(**{k: v for k, v in config.items() if k not in ("mrc_head", "model_type")})
    hf._attn_implementation = "eager"       # one formula in every version and element type
    if head:
        module = HeadReader(hf, encoder, head)
        return module.eval(), module
    reader = LinearReader(with_head(hf)).eval()
    return reader, reader.module


def load_reader(directory):
    """(callable, module, config) with the directory's weights, names and shapes taken strictly."""
    with open(os.path.join(directory, "config.json"), encoding="utf8") as f:
        config = json.load(f)
    reader, module = new_reader(config)
    module.load_state_dict(load_file(os.path.join(directory, "model.safetensors")), strict=True)
    return reader, module, config


def fill(module, generator, std=0.2):
    """Weights that hide nothing: no bias is 0, no LayerNorm weight is 1, no row of an embedding is
    0 (pads included), and they are far from the 0.02 at which every gradient is small."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float32) * std)
            if name.endswith("LayerNorm.weight"):
                p.add_(1.0)
