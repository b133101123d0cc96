"""A pack of shardserve/pipeline in a training loop: the tensors that serving computes, to the byte.

    from shardserve_pipeline import Pack, PackDataset
    loader = torch.utils.data.DataLoader(PackDataset("models/my_pack", items, mode="train"), batch_size=8, num_workers=2)

items are dicts, the feeds of one example each; tensors come as numpy arrays. Needs Node and shardserve (command), and numpy.
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
        if self.process is None:
            self.process = subprocess.Popen(self.args, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        blocks = []
        body = {"feeds": self._packed(feeds, blocks), "mode": mode, "seed": seed}
        head = json.dumps({**body, "blocks": [len(block) for block in blocks]}).encode()
        self.process.stdin.write(b"".join([struct.pack("<I", len(head)), head, *blocks]))
        self.process.stdin.flush()
        answer = json.loads(self._read(struct.unpack("<I", self._read(4))[0]))
        blocks = [self._read(length) for length in answer["blocks"]]
        if "error" in answer:
            raise ValueError(answer["error"])
        return self._unpacked(answer["output"], blocks)

    def _packed(self, value, blocks):
        if isinstance(value, np.ndarray):
            target = io.BytesIO()
            np.save(target, np.ascontiguousarray(value), allow_pickle=False)
            blocks.append(target.getvalue())
            return {"$npy": len(blocks) - 1}
        if isinstance(value, bytes):
            blocks.append(value)
            return {"$block": len(blocks) - 1}
        if isinstance(value, dict):
            return {key: self._packed(one, blocks) for key, one in value.items()}
        return [self._packed(one, blocks) for one in value] if isinstance(value, (list, tuple)) else value

    def _unpacked(self, value, blocks):
        if isinstance(value, list):
            return [self._unpacked(one, blocks) for one in value]
        if not isinstance(value, dict):
            return value
        if "$npy" in value:
            return np.load(io.BytesIO(blocks[value["$npy"]]), allow_pickle=False)
        if "$block" in value:
            return blocks[value["$block"]]
        return {key: self._unpacked(one, blocks) for key, one in value.items()}

    def _read(self, count):
        data = self.process.stdout.read(count)
        if len(data) < count:
            raise EOFError("the pipeline has ended: " + " ".join(self.args))
        return data


class PackDataset:  # What torch.utils.data.DataLoader asks of a map-style dataset.
    def __init__(self, pack, items, mode="train", seed=0, **options):
        self.pack, self.items, self.mode, self.seed = Pack(pack, **options), items, mode, seed

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):  # Set seed anew each epoch.
        return self.pack.run(self.mode, self.seed * len(self.items) + index, **self.items[index])
