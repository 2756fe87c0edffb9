"""hf_models.py FOLDER [SEED [KIND …]]: tiny models of random weights as transformers makes them, with what they say: what tests/plugins/data holds.

For each: config.json, model.safetensors, and expected.safetensors with ids, types, lengths, logits, labels, the losses before each of 21
steps of AdamW (lr 3e-3, no decay), the same under autocast to bfloat16, and of decoders the 8 likeliest tokens behind the first 4.
rows.safetensors is what `predict` takes.
"""
import copy
import os
import sys

import numpy as np
import torch
import transformers as tf
from safetensors.torch import save_file

VOCABULARY, TIME, ROWS = 37, 11, 4
BERT = dict(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24,
            max_position_embeddings=16, type_vocab_size=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
DISTILBERT = dict(vocab_size=VOCABULARY, dim=16, n_layers=1, n_heads=4, hidden_dim=24, max_position_embeddings=16, dropout=0.0,
                  attention_dropout=0.0, seq_classif_dropout=0.0)
ROBERTA = {**BERT, "num_hidden_layers": 1, "type_vocab_size": 1, "pad_token_id": 1}
GPT2 = dict(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=4, n_positions=16, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            bos_token_id=0, eos_token_id=0)
HEADS = dict(num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1)
LLAMA = dict(vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, max_position_embeddings=16)
KINDS = {
    "bert-classes": lambda: tf.BertForSequenceClassification(tf.BertConfig(**BERT, num_labels=3)),
    "bert-value": lambda: tf.BertForSequenceClassification(tf.BertConfig(**BERT, num_labels=1)),
    "bert-tokens": lambda: tf.BertForTokenClassification(tf.BertConfig(**BERT, num_labels=5)),
    "bert-masked": lambda: tf.BertForMaskedLM(tf.BertConfig(**BERT)),
    "bert-embedding": lambda: tf.BertModel(tf.BertConfig(**BERT)),
    "distilbert-classes": lambda: tf.DistilBertForSequenceClassification(tf.DistilBertConfig(**DISTILBERT, num_labels=3)),
    "distilbert-tokens": lambda: tf.DistilBertForTokenClassification(tf.DistilBertConfig(**DISTILBERT, num_labels=5)),
    "distilbert-masked": lambda: tf.DistilBertForMaskedLM(tf.DistilBertConfig(**DISTILBERT)),
    "distilbert-embedding": lambda: tf.DistilBertModel(tf.DistilBertConfig(**DISTILBERT)),
    "roberta-value": lambda: tf.RobertaForSequenceClassification(tf.RobertaConfig(**ROBERTA, num_labels=1)),
    "roberta-tokens": lambda: tf.RobertaForTokenClassification(tf.RobertaConfig(**ROBERTA, num_labels=5)),
    "roberta-masked": lambda: tf.RobertaForMaskedLM(tf.RobertaConfig(**{**ROBERTA, "type_vocab_size": 2})),
    "roberta-embedding": lambda: tf.RobertaModel(tf.RobertaConfig(**ROBERTA)),
    "gpt2": lambda: tf.GPT2LMHeadModel(tf.GPT2Config(**GPT2)),
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**LLAMA, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                                                        rope_theta=5000.0)),
    "llama-tied": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**LLAMA, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
                                                             head_dim=6, tie_word_embeddings=True, attention_bias=True, mlp_bias=True)),
    "llama-linear": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**LLAMA, **HEADS, rope_parameters=dict(
        rope_type="linear", rope_theta=10000.0, factor=4.0))),
    "llama-dynamic": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**LLAMA, **HEADS, rope_parameters=dict(
        rope_type="dynamic", rope_theta=10000.0, factor=4.0))),
    "llama-llama3": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**LLAMA, **HEADS, rope_parameters=dict(  # pairs of each sort
        rope_type="llama3", rope_theta=100.0, factor=8.0, low_freq_factor=0.2, high_freq_factor=1.0, original_max_position_embeddings=8))),
    "mistral": lambda: tf.MistralForCausalLM(tf.MistralConfig(**LLAMA, **HEADS)),
    "qwen2": lambda: tf.Qwen2ForCausalLM(tf.Qwen2Config(**LLAMA, **HEADS, tie_word_embeddings=True)),
}


def encodes(name):
    return "bert" in name


def typed(name):
    return name.startswith("bert") or name == "roberta-masked"


def batch(name):
    rng = np.random.default_rng(3)
    ids = torch.tensor(rng.integers(0, VOCABULARY, (ROWS, TIME)))
    if name.startswith("roberta"):
        ids[ids == 1] = 2
        if name == "roberta-embedding":  # the pad token inside of rows: the others have the positions that they would have without
            ids[0, 3] = ids[0, 4] = ids[2, 0] = 1
    types = torch.tensor(rng.integers(0, 2, (ROWS, TIME)))
    lengths = torch.tensor([TIME, 5, 8, 1])
    mask = torch.arange(TIME)[None] < lengths[:, None]
    if name.endswith("-value"):
        labels = torch.tensor(rng.normal(size=(ROWS,)).astype(np.float32))
    elif name.endswith("-classes"):
        labels = torch.tensor(rng.integers(0, 3, (ROWS,)))
    elif encodes(name):
        labels = torch.tensor(rng.integers(0, 5 if name.endswith("-tokens") else VOCABULARY, (ROWS, TIME)))
        labels[~mask] = -100
    else:
        labels = torch.full((ROWS, TIME), -100)
        labels[:, :-1] = torch.where(mask[:, 1:], ids[:, 1:], torch.tensor(-100))
    return ids, types, lengths, mask, labels


def answers(model, name, ids, types, mask):
    args = dict(input_ids=ids, attention_mask=mask.long())
    if typed(name):
        args["token_type_ids"] = types
    out = model(**args)
    if name.endswith("-embedding"):
        return (out.last_hidden_state * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return out.logits


def losses(model, name, ids, types, mask, labels, narrow=False):
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0, eps=1e-8)
    found = []
    for _ in range(21):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow):
            y = answers(model, name, ids, types, mask).float()
        if name.endswith("-value"):
            loss = torch.nn.functional.mse_loss(y[:, 0], labels)
        else:
            loss = torch.nn.functional.cross_entropy(y.reshape(-1, y.shape[-1]), labels.reshape(-1))
        found.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.tensor(found)


def make(name, folder, seed=1):
    torch.manual_seed(seed)
    model = KINDS[name]().eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():  # biases and norms that are not 0 and 1
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.1)
    model.save_pretrained(folder)
    ids, types, lengths, mask, labels = batch(name)
    with torch.no_grad():
        y = answers(model, name, ids, types, mask).float()
    t = {"ids": ids.int(), "types": types.int(), "lengths": lengths.int(), "logits": y.reshape(-1, y.shape[-1]).contiguous()}
    rows = {key: t[key] for key in ("ids", "types", "lengths") if key != "types" or typed(name)}
    if not encodes(name):
        with torch.no_grad():
            made = model.generate(ids[:1, :4], attention_mask=torch.ones(1, 4).long(), max_new_tokens=8, do_sample=False, pad_token_id=0,
                                  eos_token_id=None)
        t["greedy"] = made[0, 4:].int().contiguous()
    if not name.endswith("-embedding"):
        t["labels"] = labels if labels.dtype == torch.float32 else labels.int()
        t["losses_bf16"] = losses(copy.deepcopy(model), name, ids, types, mask, labels, narrow=True)
        t["losses"] = losses(model, name, ids, types, mask, labels)
    save_file(t, os.path.join(folder, "expected.safetensors"))
    save_file(rows, os.path.join(folder, "rows.safetensors"))


if __name__ == "__main__":
    torch.set_num_threads(1)  # such small models are only held up by more
    for kind in sys.argv[3:] or KINDS:
        make(kind, os.path.join(sys.argv[1], kind), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
