"""PyTorch's side of tests/bench/pytorch.c: prepares what is asked for, then does it once for each line that it reads and answers with the
seconds that this took; for the line "memory", with the bytes that the process held at most beyond what it held before the preparation.

    pytorch.py product M N K TRANSPOSE_A TRANSPOSE_B
    pytorch.py bert|gpt2 ROWS TIME eager|sdpa float32|bfloat16
"""
import os
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
import torch

torch.set_num_threads(int(os.environ.get("MB_BENCH_THREADS", "2")))
torch.manual_seed(1)


def status(key):
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(key + ":"))


def product(m, n, k, transpose_a, transpose_b):
    m, n, k = int(m), int(n), int(k)
    a = torch.rand(k, m).t() if transpose_a == "1" else torch.rand(m, k)
    b = torch.rand(n, k).t() if transpose_b == "1" else torch.rand(k, n)
    c = torch.empty(m, n)
    return lambda: torch.mm(a, b, out=c)


def step(kind, rows, time_, attention, precision):
    rows, time_ = int(rows), int(time_)
    if kind == "bert":
        config = transformers.BertConfig(attn_implementation=attention, num_labels=2)
        model = transformers.BertForSequenceClassification(config)
        labels = torch.arange(rows) % 2
    else:
        config = transformers.GPT2Config(attn_implementation=attention)
        model = transformers.GPT2LMHeadModel(config)
    ids = torch.randint(0, config.vocab_size, (rows, time_))
    labels = labels if kind == "bert" else ids
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01, fused=True)

    def once():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return once


with torch.no_grad() if sys.argv[1] == "product" else torch.enable_grad():
    if sys.argv[1] != "product":
        import transformers
        from transformers.models.bert import modeling_bert  # noqa: F401: so that imports aren't counted as a step's memory
        from transformers.models.gpt2 import modeling_gpt2  # noqa: F401
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")
    before = status("VmRSS")
    run = product(*sys.argv[2:]) if sys.argv[1] == "product" else step(*sys.argv[1:])
    for line in sys.stdin:
        if line.strip() == "memory":
            print(status("VmHWM") - before, flush=True)
            continue
        start = time.perf_counter()
        run()
        print(time.perf_counter() - start, flush=True)
