"""A classifier from two files with a text, a tab and a label in each line: python finetune.py TRAIN.tsv TEST.tsv [OUTPUT]"""

import sys
import time

from demo import model_path
from ferroformer import AutoTokenizer, BertForSequenceClassification, Trainer, TrainingArguments


def read(file: str) -> list[list[str]]:
    with open(file, encoding="utf-8") as lines:
        return [line.rstrip("\n").rsplit("\t", 1) for line in lines]


def accuracy(prediction) -> dict[str, float]:
    return {"accuracy": (prediction.predictions.argmax(-1) == prediction.label_ids).mean()}


def main(train: str, test: str, output: str = "classifier") -> None:
    path = str(model_path())
    tokenizer = AutoTokenizer.from_pretrained(path)
    pairs = {split: read(file) for split, file in (("train", train), ("test", test))}
    names = sorted({label for _, label in pairs["train"]})
    rows = {
        split: [{**tokenizer(text, truncation=True), "label": names.index(label)} for text, label in some]
        for split, some in pairs.items()
    }
    model = BertForSequenceClassification.from_pretrained(path, num_labels=len(names), id2label=dict(enumerate(names)))
    recipe = {"num_train_epochs": 2, "per_device_train_batch_size": 32, "learning_rate": 5e-5}
    args = TrainingArguments(output, logging_steps=50, save_strategy="no", **recipe)
    data = {"train_dataset": rows["train"], "eval_dataset": rows["test"], "processing_class": tokenizer}
    trainer = Trainer(model, args, compute_metrics=accuracy, **data)
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    right = trainer.evaluate()["eval_accuracy"]
    trainer.save_model()
    print(f"{right:.1%} of {len(rows['test'])} texts are right after {seconds:.0f} s; the classifier is in {output}")


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
