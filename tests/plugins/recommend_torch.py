"""The steps that tests/plugins/recommend_steps.c has written (MB_STEPS=FOLDER), done by PyTorch.

    recommend_torch.py FOLDER check FILE     losses of both, and those that FILE has recorded, differ by at most 1e-4
    recommend_torch.py FOLDER record FILE    writes PyTorch's losses to FILE
"""
import json
import os
import sys

import torch
from safetensors import safe_open
from torch.nn import functional as F

NAMES = ["mse", "bpr", "softmax", "towers", "towers-bpr"]
ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu, "tanh": torch.tanh}


class Run:
    def __init__(self, path):
        with safe_open(path, "pt") as f:
            self.t = {k: f.get_tensor(k) for k in f.keys()}
            meta = f.metadata()
        self.config, self.options = json.loads(meta["config"]), json.loads(meta["optimizer"])
        self.p = {k[6:]: v.clone().requires_grad_() for k, v in self.t.items() if k.startswith("start.")}

    def vectors(self, side, indices, rows):
        c, p = self.config, self.p
        x = p[f"{side}_embedding.weight"][rows.long()]
        if c["model_type"] != "mbuild-two-towers":
            return x
        i = 0
        while f"{side}.codes.{i}" in self.t:
            x = x + p[f"{side}_categories.{i}.weight"][self.t[f"{side}.codes.{i}"][indices.long()].long() + 1]
            i += 1
        if f"{side}.numbers" in self.t:
            x = x + F.linear(self.t[f"{side}.numbers"][indices.long()], p[f"{side}_numbers.weight"], p[f"{side}_numbers.bias"])
        for i in range(len(c["hidden"])):
            x = ACTIVATIONS[c["activation"]](F.linear(x, p[f"{side}_layers.{i}.weight"], p[f"{side}_layers.{i}.bias"]))
        x = F.linear(x, p[f"{side}_head.weight"], p[f"{side}_head.bias"])
        return F.normalize(x, dim=-1) if c["normalize"] else x

    def bias(self, side, rows):
        b = self.p.get(f"{side}_bias.weight")
        return b[rows.long()].squeeze(-1) if b is not None else torch.zeros(len(rows))

    def loss(self, step):
        def of(name):
            return self.t[f"{step}.{name}"]

        u, v = self.vectors("user", of("users"), of("user_rows")), self.vectors("item", of("items"), of("item_rows"))
        n, temperature = len(u), self.config.get("temperature", 1)
        bias = self.bias("item", of("item_rows"))
        if self.config["loss"] == "softmax":
            return F.cross_entropy(u @ v.T / temperature + bias + of("adjust"), torch.arange(n))
        scores = (u * v.view(-1, *u.shape)).sum(-1) / temperature + bias.view(-1, n)
        if self.config["loss"] == "mse":
            return F.mse_loss(scores[0] + self.bias("user", of("user_rows")), of("targets"))
        return -F.logsigmoid(scores[0] - scores[1:]).mean()

    def optimizer(self):
        o = self.options
        plain = [v for k, v in self.p.items() if k.endswith("bias.weight") or k.endswith(".bias")]
        decayed = [v for k, v in self.p.items() if not (k.endswith("bias.weight") or k.endswith(".bias"))]
        groups = [{"params": decayed, "weight_decay": o["weight_decay"]}, {"params": plain, "weight_decay": 0}]
        if o["kind"] == "sgd":
            return torch.optim.SGD(groups, lr=o["lr"], momentum=o["momentum"])
        return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[o["kind"]](groups, lr=o["lr"])

    def losses(self):
        optimizer, out = self.optimizer(), []
        for step in range(len(self.t["losses"])):
            optimizer.zero_grad()
            loss = self.loss(step)
            loss.backward()
            if self.options["clip"] > 0:
                torch.nn.utils.clip_grad_norm_(self.p.values(), self.options["clip"])
            optimizer.step()
            out.append(loss.item())
        return out


def worst(a, b):
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


folder, what, file = sys.argv[1:]
torch.set_num_threads(1)
made = {name: Run(os.path.join(folder, name + ".safetensors")) for name in NAMES}
losses = {name: run.losses() for name, run in made.items()}
if what == "record":
    with open(file, "w") as f:
        rows = (f'  "{name}": [' + ", ".join(f"{x:.6f}" for x in losses[name]) + "]" for name in NAMES)
        f.write("{\n" + ",\n".join(rows) + "\n}\n")
else:
    with open(file) as f:
        recorded = json.load(f)
    for name in NAMES:
        for whose, other in (("mbuild's", made[name].t["losses"].tolist()), ("the recorded ones", recorded[name])):
            distance = worst(losses[name], other)
            print(f"{name}: {losses[name][0]:.4f} to {losses[name][-1]:.4f}, {distance:.1e} from {whose}")
            if not distance <= 1e-4:
                sys.exit(f"{name}: PyTorch's losses are {distance} from {whose}")
