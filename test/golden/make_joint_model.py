"""A joint ONNX model of texts and images, a BERT beside a real ResNet-18, with random weights, and what Python answers with it.

    python test/golden/make_joint_model.py FOLDER      # half a minute on one core; needs requirements.txt

Out   FOLDER/{joint.onnx, tokenizer.json, cases.json}: eight of {"text", "image" (PNG as base64), "exact", "logits"}; "exact": the image is cut
      only, so that its pixels are those of any other reader. Too large to be committed: test/long makes it where torch is
"""
import base64
import io
import json
import pathlib
import shutil
import sys

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import nn
from transformers import BertConfig, BertModel

HERE = pathlib.Path(__file__).parent
OPSET, SIDE, CUT, LABELS = 17, 256, 224, 10
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
TEXTS = [
    "it will rain in oslo today", "we ate soup and bread in lima", "the train to kyoto leaves soon", "this curry tastes good tonight",
    "the sky over cairo is grey tomorrow", "please cook noodles today", "i booked a hotel in quito soon", "it will snow in paris",
]


class Block(nn.Module):
    def __init__(self, before, channels, stride):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(before, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))
        same = stride == 1 and before == channels
        self.short = nn.Identity() if same else nn.Sequential(nn.Conv2d(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x):
        return torch.relu(self.second(self.first(x)) + self.short(x))


class ResNet18(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        stages = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
        self.stages = nn.Sequential(*[layer for a, b, stride in stages for layer in (Block(a, b, stride), Block(b, b, 1))])

    def forward(self, x):
        return self.stages(self.stem(x)).mean((2, 3))


class Joint(nn.Module):
    def __init__(self, words):
        super().__init__()
        sizes = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
        self.bert = BertModel(BertConfig(vocab_size=words, attn_implementation="eager", **sizes))
        self.resnet = ResNet18()
        self.head = nn.Linear(256 + 512, LABELS)

    def forward(self, input_ids, attention_mask, image):
        text = self.bert(input_ids, attention_mask=attention_mask).pooler_output
        return self.head(torch.cat([text, self.resnet(image)], 1))


def picture(seed, width, height):
    """Waves of three colours: smooth, so that a resized one says something."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / random.uniform(5, 60) + y / random.uniform(5, 60) + random.uniform(0, 6)) for _ in range(3)]
    return Image.fromarray(((np.stack(waves, -1) + 1) * 127.5).astype(np.uint8))


def pixels(image):
    scale = SIDE / min(image.size)
    if scale != 1:
        image = image.resize([round(side * scale) for side in image.size], Image.BILINEAR)
    left, top = [(side - CUT) // 2 for side in image.size]
    image = image.crop((left, top, left + CUT, top + CUT))
    return ((np.asarray(image) / 255 - MEAN) / DEVIATION).transpose(2, 0, 1).astype(np.float32)


def main(out):
    torch.manual_seed(18)
    out.mkdir(parents=True, exist_ok=True)
    source = HERE / "handler-models" / "text_classifier" / "tokenizer.json"
    shutil.copy(source, out / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(source))
    model = Joint(tokenizer.get_vocab_size())
    for layer in model.modules():  # As after training: no statistic is that of a layer just made.
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2), layer.running_var.uniform_(0.5, 1.5), layer.weight.data.uniform_(0.5, 1.5)
    model.eval()
    sizes = [(256, 256), (300, 256), (256, 320), (402, 256), (512, 512), (640, 480), (333, 500), (1024, 700)]
    images = [picture(seed, *size) for seed, size in enumerate(sizes)]
    rows = [tokenizer.encode(text).ids for text in TEXTS]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    image = torch.tensor(np.stack([pixels(one) for one in images]))
    given = {"input_ids": ids, "attention_mask": mask, "image": image}
    axes = {"input_ids": {0: "n", 1: "tokens"}, "attention_mask": {0: "n", 1: "tokens"}, "image": {0: "n"}, "logits": {0: "n"}}
    with torch.no_grad():
        logits = model(**given)
        torch.onnx.export(model, tuple(given.values()), str(out / "joint.onnx"), input_names=list(given), output_names=["logits"],
                          dynamic_axes=axes, opset_version=OPSET, dynamo=False)
    cases = []
    for text, one, row in zip(TEXTS, images, logits):
        target = io.BytesIO()
        one.save(target, "PNG")
        encoded = base64.b64encode(target.getvalue()).decode()
        cases.append({"text": text, "image": encoded, "exact": min(one.size) == SIDE, "logits": row.tolist()})
    (out / "cases.json").write_text(json.dumps(cases))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
