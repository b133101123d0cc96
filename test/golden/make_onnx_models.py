"""Ten small ONNX models of ten kinds, each with what onnxruntime's Python API answers: what the ONNX engine is compared with.

Run it where torch, transformers, onnx and onnxruntime are (requirements.txt):

    python test/golden/make_onnx_models.py

It writes test/golden/onnx-models/NAME.onnx and NAME.json: [{"inputs": [tensor, …], "outputs": [tensor, …]}, …], tensors as the Open
Inference Protocol writes them. Several cases a model where its axes vary. The files are committed: tests need no Python.
"""
import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn

OUT = pathlib.Path(__file__).parent / "onnx-models"
OPSET = 17
DATATYPES = {
    "float16": "FP16", "float32": "FP32", "float64": "FP64", "int64": "INT64", "int32": "INT32", "int8": "INT8",
    "uint8": "UINT8", "bool": "BOOL", "object": "BYTES", "str": "BYTES",
}
rng = np.random.default_rng(17)


def export(name, module, inputs, outputs, axes):
    module.eval()
    torch.onnx.export(
        module, tuple(inputs.values()), str(OUT / f"{name}.onnx"), input_names=list(inputs), output_names=outputs,
        dynamic_axes=axes, opset_version=OPSET, dynamo=False,
    )


def save(name, nodes, inputs, outputs, initialisers=()):
    graph = helper.make_graph(list(nodes), name, list(inputs), list(outputs), list(initialisers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 2)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(OUT / f"{name}.onnx"))


def info(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def tensor(name, value):
    value = np.asarray(value)
    kind = "str" if value.dtype.kind in "US" else str(value.dtype)
    return {"name": name, "shape": list(value.shape), "datatype": DATATYPES[kind], "data": value.flatten().tolist()}


def record(name, cases):
    session = ort.InferenceSession(str(OUT / f"{name}.onnx"), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    written = []
    for feeds in cases:
        answers = session.run(None, feeds)
        written.append({
            "inputs": [tensor(key, value) for key, value in feeds.items()],
            "outputs": [tensor(key, value) for key, value in zip(names, answers)],
        })
    (OUT / f"{name}.json").write_text(json.dumps(written) + "\n")
    print(name, [[(one["name"], one["shape"]) for one in case["outputs"]] for case in written])


def floats(*shape):
    return rng.standard_normal(shape).astype(np.float32)


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 3), nn.Softmax(-1))

    def forward(self, x):
        return self.layers(x)


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
        )

    def forward(self, image):
        return self.layers(image)


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 12, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(24, 5)

    def forward(self, steps):
        return self.head(self.lstm(steps)[0])


def bert():
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=32, attn_implementation="eager",
    )

    class Raw(nn.Module):
        """The raw outputs: last hidden state and pooled."""

        def __init__(self):
            super().__init__()
            self.model = BertModel(config)

        def forward(self, input_ids, attention_mask, token_type_ids):
            answer = self.model(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
            return answer.last_hidden_state, answer.pooler_output

    ids = torch.randint(0, 64, (2, 7))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    axes = {name: {0: "batch", 1: "tokens"} for name in [*inputs, "last_hidden_state"]} | {"pooled": {0: "batch"}}
    export("bert", Raw(), inputs, ["last_hidden_state", "pooled"], axes)
    cases = []
    for batch, length, masked in [(1, 4, 0), (2, 9, 3)]:
        given = rng.integers(0, 64, (batch, length))
        mask = np.ones_like(given)
        mask[0, length - masked:] = 0
        cases.append({"input_ids": given, "attention_mask": mask, "token_type_ids": np.zeros_like(given)})
    record("bert", cases)


def detector():
    """Boxes and scores from a linear map, then the best of each class without the overlapping ones."""
    one = [numpy_helper.from_array(np.array([value]).astype(kind), key) for key, value, kind in
           [("most", 5, np.int64), ("iou", 0.5, np.float32), ("least", 0.3, np.float32)]]
    nodes = [
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "least"], ["selected"]),
    ]
    save(
        "detector", nodes,
        [info("boxes", TensorProto.FLOAT, [1, "anchors", 4]), info("logits", TensorProto.FLOAT, [1, 3, "anchors"])],
        [info("selected", TensorProto.INT64, ["found", 3]), info("scores", TensorProto.FLOAT, [1, 3, "anchors"])], one,
    )
    cases = []
    for anchors in (12, 30):
        corner = rng.random((1, anchors, 2)).astype(np.float32)
        cases.append({"boxes": np.concatenate([corner, corner + 0.3], -1), "logits": floats(1, 3, anchors)})
    record("detector", cases)


def strings():
    save(
        "strings",
        [
            helper.make_node("StringNormalizer", ["text"], ["upper"], case_change_action="UPPER", locale="C"),
            helper.make_node("LabelEncoder", ["text"], ["id"], domain="ai.onnx.ml", keys_strings=["hello", "world"],
                             values_int64s=[0, 1], default_int64=2),
        ],
        [info("text", TensorProto.STRING, ["n"])],
        [info("upper", TensorProto.STRING, ["n"]), info("id", TensorProto.INT64, ["n"])],
    )


def two_inputs():
    """Of different types; the second is a choice between two maps of the first."""
    weights = [numpy_helper.from_array(floats(4, 2), key) for key in ("a", "b")]
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["first"]),
        helper.make_node("MatMul", ["x", "b"], ["second"]),
        helper.make_node("Where", ["chosen", "first", "second"], ["y"]),
    ]
    save("two-inputs", nodes, [info("x", TensorProto.FLOAT, ["n", 4]), info("chosen", TensorProto.BOOL, ["n", 1])],
         [info("y", TensorProto.FLOAT, ["n", 2])], weights)
    record("two-inputs", [{"x": floats(3, 4), "chosen": np.array([[True], [False], [True]])}])


def dynamic_axes():
    """Every axis varies, also in double precision: rows that sum up, and the whole transposed."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0),
    ]
    save("dynamic-axes", nodes, [info("x", TensorProto.DOUBLE, ["n", "rows", "columns"])],
         [info("turned", TensorProto.DOUBLE, ["n", "columns", "rows"]), info("sum", TensorProto.DOUBLE, ["n", "rows"])],
         [numpy_helper.from_array(np.array([2]), "axes")])
    record("dynamic-axes", [{"x": rng.standard_normal(shape)} for shape in [(1, 2, 3), (2, 5, 1), (1, 0, 4)]])


def half():
    weight = numpy_helper.from_array(floats(8, 4).astype(np.float16), "w")
    save("fp16", [helper.make_node("MatMul", ["x", "w"], ["product"]), helper.make_node("Tanh", ["product"], ["y"])],
         [info("x", TensorProto.FLOAT16, ["n", 8])], [info("y", TensorProto.FLOAT16, ["n", 4])], [weight])
    record("fp16", [{"x": floats(2, 8).astype(np.float16)}])


def numpy_files():
    """What numpy writes of every kind, and the feeds of a model as an archive."""
    arrays = {
        "half": floats(2, 3).astype(np.float16), "float": floats(3), "double": rng.standard_normal((1, 2)), "long": np.array([[1, -2**40]]),
        "byte": np.arange(6, dtype=np.uint8).reshape(2, 3), "truth": np.array([True, False]), "text": np.array(["hé", "", "wörld"]),
        "empty": np.zeros((0, 4), np.float32), "one": np.float32(2.5), "turned": np.asfortranarray(np.arange(3, dtype=np.int32).reshape(3, 1)),
    }
    np.savez(OUT / "arrays.npz", **arrays)
    np.savez_compressed(OUT / "compressed.npz", **arrays)
    (OUT / "arrays.numpy.json").write_text(json.dumps([tensor(name, value) for name, value in arrays.items()]) + "\n")
    np.save(OUT / "turned.npy", np.asfortranarray(np.arange(6).reshape(2, 3)))


def main():
    OUT.mkdir(exist_ok=True)
    torch.manual_seed(17)
    export("mlp", Mlp(), {"x": torch.randn(2, 8)}, ["y"], {"x": {0: "n"}, "y": {0: "n"}})
    record("mlp", [{"x": floats(1, 8)}, {"x": floats(5, 8)}])
    export("cnn", Cnn(), {"image": torch.randn(2, 3, 12, 12)}, ["logits"], {"image": {0: "n"}, "logits": {0: "n"}})
    record("cnn", [{"image": floats(1, 3, 12, 12)}, {"image": floats(2, 3, 12, 12)}])
    bert()
    export("lstm", Lstm(), {"steps": torch.randn(2, 4, 6)}, ["y"], {"steps": {0: "n", 1: "t"}, "y": {0: "n", 1: "t"}})
    record("lstm", [{"steps": floats(1, 3, 6)}, {"steps": floats(3, 8, 6)}])
    detector()
    strings()
    record("strings", [{"text": np.array(["hello", "wörld", "", "world"], dtype=object)}])
    dynamic_axes()
    half()
    quantize_dynamic(str(OUT / "mlp.onnx"), str(OUT / "int8.onnx"), weight_type=QuantType.QInt8)
    record("int8", [{"x": floats(4, 8)}])
    two_inputs()
    numpy_files()


if __name__ == "__main__":
    sys.exit(main())
