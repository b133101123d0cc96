"""Small models for TorchServe's default handlers, trained here on data made here, and what Python answers with them.

    python test/golden/make_handler_models.py      # a minute on one core; needs requirements.txt

Out   test/golden/handler-models/NAME/{model.onnx, index_to_name.json, tokenizer.json} and cases.json: texts or images with the answers that the
      handler must give; accuracy.json: share of held-out data that is right
Data  texts: sentences of three topics from templates, places and dishes as entities; images: a circle, square or triangle on a background
"""
import base64
import io
import json
import pathlib
import random

import numpy as np
import onnxruntime as ort
import torch
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn

OUT = pathlib.Path(__file__).parent / "handler-models"
OPSET = 17
TOPICS = ["weather", "food", "travel"]
ENTITIES = ["O", "PLACE", "DISH"]
PLACES = ["paris", "oslo", "lima", "kyoto", "cairo", "quito"]
DISHES = ["soup", "noodles", "bread", "curry", "salad", "cake"]
TEMPLATES = [
    ("weather", "it will {w} in {p} {t}"), ("weather", "the sky over {p} is {w} {t}"),
    ("food", "we ate {d} and {d} in {p}"), ("food", "this {d} tastes good {t}"), ("food", "please cook {d} {t}"),
    ("travel", "the train to {p} leaves {t}"), ("travel", "i booked a hotel in {p} {t}"),
]
WORDS = {"w": ["rain", "snow", "grey", "clear"], "t": ["today", "tomorrow", "soon", "tonight"], "p": PLACES, "d": DISHES}
SHAPES = ["circle", "square", "triangle"]
SIZE = 28
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def sentences(count, seed):
    choose = random.Random(seed)
    for _ in range(count):
        topic, template = choose.choice(TEMPLATES)
        words, entities = [], []
        for part in template.split():
            kind = part.strip("{}")
            word = choose.choice(WORDS[kind]) if part.startswith("{") else part
            words.append(word)
            entities.append({"p": 1, "d": 2}.get(kind, 0) if part.startswith("{") else 0)
        yield " ".join(words), TOPICS.index(topic), entities


def tokenizer():
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    made.train_from_iterator((text for text, _, _ in sentences(2000, 1)), trainers.WordPieceTrainer(vocab_size=220, special_tokens=special))
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return made


class Encoder(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 16)
        self.mix = nn.Conv1d(16, 16, 3, padding=1)

    def forward(self, input_ids, attention_mask):
        own = attention_mask.unsqueeze(-1).float()
        hidden = self.embed(input_ids) * own
        return torch.tanh(self.mix(hidden.transpose(1, 2)).transpose(1, 2)) * own


class TopicModel(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(16, 3)

    def forward(self, input_ids, attention_mask):
        hidden = self.encoder(input_ids, attention_mask)
        return self.head(hidden.sum(1) / attention_mask.sum(1, keepdim=True).float())


class EntityModel(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(16, 3)

    def forward(self, input_ids, attention_mask):
        return self.head(self.encoder(input_ids, attention_mask))


def batch_of(cut, texts):
    encoded = [cut.encode(text).ids for text in texts]
    width = max(map(len, encoded))
    ids = np.array([one + [0] * (width - len(one)) for one in encoded])
    mask = np.array([[1] * len(one) + [0] * (width - len(one)) for one in encoded])
    return ids, mask


def token_labels(cut, text, entities):
    """Of the first and all later pieces of a word; -100 where there is none."""
    return [-100 if word is None else entities[word] for word in cut.encode(text).word_ids]


def train(model, parameters, loss_of, steps, rate=0.02):
    optimiser = torch.optim.Adam(parameters, rate)
    for step in range(steps):
        optimiser.zero_grad()
        loss_of(step).backward()
        optimiser.step()
    model.eval()


def export(model, folder, inputs, outputs, axes):
    folder.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(model, tuple(inputs.values()), str(folder / "model.onnx"), input_names=list(inputs), output_names=outputs,
                      dynamic_axes=axes, opset_version=OPSET, dynamo=False)
    return ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])


def softmax(rows):
    powers = np.exp(rows - rows.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def texts(accuracy):
    cut = tokenizer()
    data, held = list(sentences(1500, 2)), list(sentences(300, 3))
    encoder = Encoder(cut.get_vocab_size())
    topic, entity = TopicModel(encoder), EntityModel(encoder)

    def loss_of(step):
        part = data[step * 30 % 1500:][:30]
        ids, mask = (torch.tensor(one) for one in batch_of(cut, [text for text, _, _ in part]))
        labels = [token_labels(cut, text, entities) for text, _, entities in part]
        wanted = torch.tensor([one + [-100] * (ids.shape[1] - len(one)) for one in labels])
        return nn.functional.cross_entropy(topic(ids, mask), torch.tensor([one for _, one, _ in part])) + nn.functional.cross_entropy(
            entity(ids, mask).transpose(1, 2), wanted)

    train(topic, [*topic.parameters(), *entity.head.parameters()], loss_of, 250)
    entity.eval()
    ids, mask = batch_of(cut, [text for text, _, _ in held[:2]])
    given = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
    axes = {name: {0: "n", 1: "tokens"} for name in given}
    cases = [*(text for text, _, _ in held[:4]), "Soup, noodles and CAKE!"]

    session = export(topic, OUT / "text_classifier", given, ["logits"], axes | {"logits": {0: "n"}})
    ids, mask = batch_of(cut, [text for text, _, _ in held])
    found = session.run(None, {"input_ids": ids, "attention_mask": mask})[0].argmax(-1)
    accuracy["text_classifier"] = float(np.mean(found == [one for _, one, _ in held]))
    answers = []
    for text in cases:
        ids, mask = batch_of(cut, [text])
        chances = softmax(session.run(None, {"input_ids": ids, "attention_mask": mask})[0])[0]
        answers.append({"text": text, "answer": dict(zip(TOPICS, map(float, chances)))})
    finish("text_classifier", cut, TOPICS, answers)

    session = export(entity, OUT / "token_classifier", given, ["logits"], axes | {"logits": {0: "n", 1: "tokens"}})
    right, total, answers = 0, 0, []
    for text, _, entities in held:
        ids, mask = batch_of(cut, [text])
        found = session.run(None, {"input_ids": ids, "attention_mask": mask})[0][0].argmax(-1)
        for label, one in zip(token_labels(cut, text, entities), found):
            right, total = right + (label == one), total + (label != -100)
    accuracy["token_classifier"] = float(right / total)
    for text in cases:
        ids, mask = batch_of(cut, [text])
        chances = softmax(session.run(None, {"input_ids": ids, "attention_mask": mask})[0])[0]
        answers.append({"text": text, "answer": [
            {"word": cut.id_to_token(int(one)), "entity": ENTITIES[int(row.argmax())], "score": float(row.max())}
            for one, row in zip(ids[0], chances) if one > 3
        ]})
    finish("token_classifier", cut, ENTITIES, answers)

    session = export(encoder, OUT / "text_to_embedding", given, ["hidden"], axes | {"hidden": {0: "n", 1: "tokens"}})
    answers = []
    for text in cases:
        ids, mask = batch_of(cut, [text])
        answers.append({"text": text, "answer": session.run(None, {"input_ids": ids, "attention_mask": mask})[0][0].mean(0).tolist()})
    finish("text_to_embedding", cut, None, answers)


def finish(name, cut, names, cases):
    folder = OUT / name
    if cut is not None:
        cut.save(str(folder / "tokenizer.json"), pretty=False)
    if names is not None:
        (folder / "index_to_name.json").write_text(json.dumps({str(index): one for index, one in enumerate(names)}) + "\n")
    (folder / "cases.json").write_text(json.dumps(cases) + "\n")


def picture(choose, width=40, height=32):
    """An image, what is drawn in it and where: [x1, y1, x2, y2]."""
    shape = choose.randrange(3)
    image = Image.new("RGB", (width, height), tuple(choose.randrange(0, 70) for _ in range(3)))
    side = choose.randrange(14, 21)
    x, y = choose.randrange(4, width - side - 4), choose.randrange(2, height - side - 2)
    box = [x, y, x + side, y + side]
    colour = tuple(choose.randrange(170, 256) for _ in range(3))
    draw = ImageDraw.Draw(image)
    if shape == 0:
        draw.ellipse(box, fill=colour)
    elif shape == 1:
        draw.rectangle(box, fill=colour)
    else:
        draw.polygon([(x, y + side), (x + side, y + side), (x + side // 2, y)], fill=colour)
    return image, shape, box


def prepared(image):
    """As TorchServe does: the shorter side to 256/224 of the crop, bilinear, then the middle; ImageNet's mean and deviation."""
    side = round(SIZE * 256 / 224)
    scale = side / min(image.size)
    large = image.resize((round(image.width * scale), round(image.height * scale)), Image.BILINEAR)
    left, top = round((large.width - SIZE) / 2), round((large.height - SIZE) / 2)
    pixels = np.asarray(large.crop((left, top, left + SIZE, top + SIZE))) / 255
    return ((pixels - MEAN) / DEVIATION).transpose(2, 0, 1).astype(np.float32)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16),
            nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 49, 3))

    def forward(self, images):
        return self.layers(images)


class Segmenter(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 2, 1))

    def forward(self, images):
        return self.layers(images)


class Detector(nn.Module):
    """The box around what is bright: no training, but real work on every pixel."""

    def forward(self, image):
        bright = (image[0].mean(0) > 0.5).float()
        height, width = bright.shape
        rows, columns = torch.arange(height).float(), torch.arange(width).float()
        by_row, by_column = bright.amax(1), bright.amax(0)
        low = lambda one, places, size: (places + (1 - one) * size).amin()
        high = lambda one, places: (places * one).amax()
        box = torch.stack([low(by_column, columns, width), low(by_row, rows, height), high(by_column, columns), high(by_row, rows)])
        second = torch.zeros(4)
        scores = torch.stack([bright.amax(), bright.amax() * 0.2])
        return torch.stack([box, second]), torch.tensor([1, 0]), scores


def png(image):
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def images(accuracy):
    choose = random.Random(4)
    data, held = [picture(choose) for _ in range(900)], [picture(choose) for _ in range(200)]
    inputs = torch.tensor(np.stack([prepared(image) for image, _, _ in data]))
    labels = torch.tensor([shape for _, shape, _ in data])
    cases = [held[index] for index in range(6)]

    model = Classifier()
    train(model, model.parameters(), lambda step: nn.functional.cross_entropy(
        model(inputs[step * 50 % 900:][:50]), labels[step * 50 % 900:][:50]), 300, 0.003)
    session = export(model, OUT / "image_classifier", {"images": inputs[:2]}, ["logits"], {"images": {0: "n"}, "logits": {0: "n"}})
    run = lambda image: session.run(None, {"images": prepared(image)[None]})[0]
    accuracy["image_classifier"] = float(np.mean([run(image)[0].argmax() == shape for image, shape, _ in held]))
    finish("image_classifier", None, SHAPES, [
        {"image": png(image), "answer": dict(zip(SHAPES, map(float, softmax(run(image))[0])))} for image, _, _ in cases])

    model = Segmenter()
    wanted = (inputs.mean(1) > 0.6).long()
    train(model, model.parameters(), lambda step: nn.functional.cross_entropy(
        model(inputs[step * 50 % 900:][:50]), wanted[step * 50 % 900:][:50]), 60)
    session = export(model, OUT / "image_segmenter", {"images": inputs[:2]}, ["logits"], {"images": {0: "n"}, "logits": {0: "n"}})
    found = [session.run(None, {"images": prepared(image)[None]})[0][0] for image, _, _ in held]
    accuracy["image_segmenter"] = float(np.mean([(one.argmax(0) == (prepared(image).mean(0) > 0.6)).mean() for one, (image, _, _) in zip(found, held)]))
    answers = [session.run(None, {"images": prepared(image)[None]})[0][0] for image, _, _ in cases]
    finish("image_segmenter", None, None, [
        {"image": png(image), "answer": np.stack([one.argmax(0), softmax(one.transpose(1, 2, 0)).max(-1)], -1).tolist()}
        for one, (image, _, _) in zip(answers, cases)])

    pixels = lambda image: (np.asarray(image) / 255).transpose(2, 0, 1)[None].astype(np.float32)
    session = export(Detector(), OUT / "object_detector", {"image": torch.tensor(pixels(cases[0][0]))}, ["boxes", "labels", "scores"],
                     {"image": {2: "height", 3: "width"}})
    near = [np.abs(session.run(None, {"image": pixels(image)})[0][0] - box).max() <= 1 for image, _, box in held]
    accuracy["object_detector"] = float(np.mean(near))
    finish("object_detector", None, ["nothing", "shape"], [
        {"image": png(image), "answer": [{"shape": session.run(None, {"image": pixels(image)})[0][0].tolist(), "score": 1.0}]}
        for image, _, _ in [*cases, picture(choose, 50, 44)]])


def main():
    torch.manual_seed(17)
    torch.set_num_threads(1)
    accuracy = {}
    texts(accuracy)
    images(accuracy)
    (OUT / "accuracy.json").write_text(json.dumps(accuracy, indent=1) + "\n")
    print(accuracy)


if __name__ == "__main__":
    main()
