"""A pack of shardserve/pipeline in a training loop: the tensors that serving computes, to the byte.

    loader = torch.utils.data.DataLoader(PackDataset("models/my_pack", items, mode="train"), batch_size=8, num_workers=2)

items are dicts, the feeds of one example each; tensors come as numpy arrays. Needs Node, shardserve (command) and numpy.
"""
import io
import json
import struct
import subprocess

import numpy as np


class Pack:
    def __init__(self, pack, command=("npx", "shardserve"), threads=1):
        self.args = [*command, "pipeline", "serve-stdio", str(pack), "--threads", str(threads)]
        self.process = None

    def __getstate__(self):  # Each worker of a DataLoader starts a process of its own.
        return {"args": self.args, "process": None}

    def run(self, mode="eval", seed=0, **feeds):
        self.process = self.process or subprocess.Popen(self.args, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        body = {"feeds": packed(feeds, blocks := []), "mode": mode, "seed": seed}
        head = json.dumps({**body, "blocks": [len(block) for block in blocks]}).encode()
        self.process.stdin.write(b"".join([struct.pack("<I", len(head)), head, *blocks]))
        self.process.stdin.flush()
        answer = json.loads(self.read(*struct.unpack("<I", self.read(4))))
        blocks = [self.read(length) for length in answer["blocks"]]
        if "error" in answer:
            raise ValueError(answer["error"])
        return unpacked(answer["output"], blocks)

    def read(self, count):
        data = self.process.stdout.read(count)
        if len(data) < count:
            raise EOFError("the pipeline has ended: " + " ".join(self.args))
        return data


class PackDataset:  # What torch.utils.data.DataLoader asks of a map-style dataset. Set seed anew each epoch.
    def __init__(self, pack, items, mode="train", seed=0, **options):
        self.pack, self.items, self.mode, self.seed = Pack(pack, **options), items, mode, seed

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.pack.run(self.mode, self.seed * len(self.items) + index, **self.items[index])


def packed(value, blocks):
    if isinstance(value, dict):
        return {key: packed(one, blocks) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [packed(one, blocks) for one in value]
    if not isinstance(value, (np.ndarray, bytes)):
        return value
    kind = "$block" if isinstance(value, bytes) else "$npy"
    if kind == "$npy":
        np.save(target := io.BytesIO(), np.ascontiguousarray(value), allow_pickle=False)
    blocks.append(value if kind == "$block" else target.getvalue())
    return {kind: len(blocks) - 1}


def unpacked(value, blocks):
    if isinstance(value, list):
        return [unpacked(one, blocks) for one in value]
    if not isinstance(value, dict):
        return value
    if "$npy" in value:
        return np.load(io.BytesIO(blocks[value["$npy"]]), allow_pickle=False)
    return blocks[value["$block"]] if "$block" in value else {key: unpacked(one, blocks) for key, one in value.items()}
