"""PyTorch's side of tests/bench/sst2.sh: fine-tunes the folder `base` on part.tsv as mbuild does there, and prints the accuracy on
dev.tsv and the seconds that training took, parted by a space.

    sst2.py EPOCHS BATCH LR MAX_LENGTH THREADS
"""
import csv
import os
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
import tokenizers
import torch
import transformers

epochs, batch, lr, longest, threads = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
torch.set_num_threads(threads)
torch.manual_seed(1)
tokenizer = tokenizers.Tokenizer.from_file("base/tokenizer.json")
tokenizer.enable_truncation(longest)
tokenizer.no_padding()


def read(path):
    with open(path, encoding="utf-8") as f:
        rows = list(csv.reader(f, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    return [e.ids for e in tokenizer.encode_batch([r[1] for r in rows])], torch.tensor([int(r[0]) for r in rows])


def together(rows):
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, r in enumerate(rows):
        ids[i, : len(r)] = torch.tensor(r)
        mask[i, : len(r)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def batches(rows):
    """Of rows of like lengths: within each fifty batches of a shuffled epoch, by length; the batches in any order."""
    order, out = torch.randperm(len(rows)).tolist(), []
    for i in range(0, len(order), 50 * batch):
        near = sorted(order[i : i + 50 * batch], key=lambda r: len(rows[r]))
        out += [near[j : j + batch] for j in range(0, len(near), batch)]
    return [out[i] for i in torch.randperm(len(out)).tolist()]


rows, labels = read("part.tsv")
model = transformers.BertForSequenceClassification.from_pretrained("base", num_labels=2, attn_implementation="sdpa")
decay = [p for n, p in model.named_parameters() if p.ndim > 1]
plain = [p for n, p in model.named_parameters() if p.ndim <= 1]
optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}], lr=lr, fused=True)
a_step = (len(rows) + batch - 1) // batch
steps, warmup = epochs * a_step, a_step // 10
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(s / warmup if warmup else 1, (steps - s) / (steps - warmup)))
start = time.time()
model.train()
for _ in range(epochs):
    for chosen in batches(rows):
        optimizer.zero_grad(set_to_none=True)
        model(**together([rows[i] for i in chosen]), labels=labels[chosen]).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
seconds = time.time() - start
model.eval()
rows, labels = read("dev.tsv")
right = 0
with torch.no_grad():
    for i in range(0, len(rows), 64):
        right += (model(**together(rows[i : i + 64])).logits.argmax(-1) == labels[i : i + 64]).sum().item()
print(f"{right / len(rows):.4f} {seconds:.0f}")
