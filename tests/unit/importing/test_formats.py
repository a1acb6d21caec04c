"""Real rows of every format (their notation, our facts): what becomes of them, counted and written out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunix_rt.importing.conversion import Options, Outcome
from tunix_rt.importing.evalset_file import import_evalset
from tunix_rt.importing.examples import Reading
from tunix_rt.importing.rows import UnreadableFile
from tunix_rt.importing.trace_file import import_traces
from tunix_rt.quality.items import parse_evalset


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def written(*rows: dict[str, Any], name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return written


def items(path: Path, options: Options | None = None, **settings: Any) -> tuple[list[dict[str, Any]], Outcome]:
    """The items that are made of a file; they are a valid evalset with the stated digest."""
    lines: list[str] = []
    found = import_evalset(path, lines.append, options or Options(), **settings)
    assert parse_evalset("".join(lines)).digest == found.digest
    return [json.loads(line) for line in lines], found.outcome


def traces(path: Path, options: Options | None = None, **settings: Any) -> tuple[list[dict[str, Any]], Outcome]:
    lines: list[str] = []
    outcome = import_traces(path, lines.append, options or Options(), **settings)
    return [json.loads(line) for line in lines], outcome


def only(found: tuple[list[dict[str, Any]], Outcome], format: str) -> dict[str, Any]:
    (row,), outcome = found
    assert (outcome.format, outcome.imported) == (format, 1)
    return row


def said(row: dict[str, Any]) -> tuple[str, list[str], str]:
    return row["prompt"], [step["content"] for step in row["steps"]], row["final_answer"]


GSM8K = {
    "question": "A ferry carries 3 rows of 400 crates. How many crates does it carry?",
    "answer": "There are 3*400=<<3*400=1200>>1,200 crates.\nSo it carries 1,200 crates.\n#### 1,200",
}


def test_gsm8k_is_what_follows_the_hashes_and_the_thoughts_before_them(write: Any) -> None:
    path = write(GSM8K)
    assert only(items(path), "GSM8K") == {
        "id": "gsm8k-00001",
        "prompt": GSM8K["question"],
        "expected_answer": "1,200",
        "answer_type": "numeric",
        "section": "core",
        "category": "general",
        "difficulty": "medium",
    }
    steps = ["There are 3*400=1,200 crates.", "So it carries 1,200 crates."]
    assert said(only(traces(path), "GSM8K")) == (GSM8K["question"], steps, "1,200")
    kept = traces(path, Options(reading=Reading(keep_annotations=True)))
    assert said(only(kept, "GSM8K"))[1][0] == "There are 3*400=<<3*400=1200>>1,200 crates."


def test_math_is_the_last_box_with_its_braces(write: Any) -> None:
    row = {
        "problem": "Solve $2x = \\frac{1}{2}$.",
        "level": "Level 5",
        "type": "Algebra",
        "solution": "First $\\boxed{2x}$ is halved.\n\nSo $x = \\boxed{\\frac{1}{4}}$.",
    }
    item = only(items(write(row)), "MATH")
    assert (item["expected_answer"], item["answer_type"]) == ("\\frac{1}{4}", "math")
    assert (item["category"], item["difficulty"]) == ("Algebra", "hard")
    steps = ["First $\\boxed{2x}$ is halved.", "So $x = \\boxed{\\frac{1}{4}}$."]
    assert said(only(traces(write(row)), "MATH")) == (row["problem"], steps, "\\frac{1}{4}")
    of_500 = {"problem": "p", "solution": "So.", "answer": "17", "subject": "Algebra", "level": 1} | {
        "unique_id": "test/algebra/7.json"
    }
    item = only(items(write(of_500)), "MATH")
    assert (item["id"], item["expected_answer"], item["difficulty"]) == ("test/algebra/7.json", "17", "easy")


def test_mmlu_csv_without_a_header_and_as_on_the_hub(write: Any, tmp_path: Path) -> None:
    path = tmp_path / "college_test.csv"
    path.write_text('"Which is a prime, and even?",1,2,4,9,B\nWhich is odd?,2,4,"6, or 8",7,D\n')
    rows, outcome = items(path)
    assert (outcome.format, [row["expected_answer"] for row in rows]) == ("MMLU", ["B", "D"])
    assert rows[1]["prompt"] == "Which is odd?\nA) 2\nB) 4\nC) 6, or 8\nD) 7\nAnswer with the letter."
    for key in (3, "D", "3", "(D)"):
        row = {"question": "Which is odd?", "subject": "numbers", "choices": ["2", "4", "6", "7"], "answer": key}
        item = only(items(write(row)), "MMLU")
        assert (item["expected_answer"], item["answer_type"], item["category"]) == ("D", "choice", "numbers")
    pro = {"question_id": 70, "question": "q", "options": list("uvwxyz"), "answer": "F", "answer_index": 5}
    assert only(items(write(pro)), "MMLU")["id"] == "70"


@pytest.mark.parametrize(
    ("labels", "key", "letter"), [(["A", "B", "C"], "C", "C"), (["1", "2", "3"], "2", "B"), (["A", "B", "C"], "1", "A")]
)
def test_arc_labels_may_be_digits(labels: list[str], key: str, letter: str, write: Any) -> None:
    texts = ["ice", "iron", "wax"]
    hub = {"id": "Mercury_1", "question": "Which?", "choices": {"text": texts, "label": labels}, "answerKey": key}
    file = {"id": "Mercury_1", "answerKey": key} | {
        "question": {
            "stem": "Which?",
            "choices": [{"text": t, "label": x} for t, x in zip(texts, labels, strict=True)],
        }
    }
    for row in (hub, file):
        item = only(items(write(row)), "ARC")
        assert (item["expected_answer"], item["id"]) == (letter, "Mercury_1")
        assert item["prompt"].splitlines()[1] == "A) ice"


def test_inspect_samples_and_openai_evals(write: Any) -> None:
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital of Mali?"}]
    item = only(items(write({"input": asked, "target": ["Bamako", "Bamakɔ"], "id": 7})), "inspect samples")
    assert (item["id"], item["prompt"]) == ("7", "Be brief.\n\nCapital of Mali?")
    assert (item["expected_answer"], item["aliases"], item["answer_type"]) == ("Bamako", ["Bamakɔ"], "text")
    choice = {"input": "Which melts?", "target": "B", "choices": ["iron", "ice"]}
    assert only(items(write(choice)), "inspect samples")["answer_type"] == "choice"
    assert only(items(write({"input": asked, "ideal": "Bamako"})), "OpenAI evals")["expected_answer"] == "Bamako"
    shots = [
        asked[0],
        {"role": "system", "name": "example_user", "content": "Capital of Chad?"},
        {"role": "system", "name": "example_assistant", "content": "N'Djamena"},
        asked[1],
    ]
    with pytest.raises(UnreadableFile, match=r"has several turns.*\n.*--join-turns"):
        items(write({"input": shots, "ideal": "Bamako"}))
    joined = items(write({"input": shots, "ideal": "Bamako"}), Options(reading=Reading(join_turns=True)))
    assert only(joined, "OpenAI evals")["prompt"] == (
        "Be brief.\n\nUser: Capital of Chad?\n\nAssistant: N'Djamena\n\nUser: Capital of Mali?"
    )


def test_lm_eval_samples_are_read_by_their_document_once_for_all_filters(write: Any) -> None:
    sample = {"doc_id": 4, "doc": GSM8K, "target": GSM8K["answer"], "arguments": {"gen_args_0": {"arg_0": "Q: …"}}} | {
        "resps": [["… 1200"]],
        "filtered_resps": ["1200"],
        "exact_match": 1.0,
    }
    path = write(sample | {"filter": "strict-match"}, sample | {"filter": "flexible-extract"})
    (item,), outcome = items(path)
    assert (item["id"], item["prompt"], item["expected_answer"]) == ("4", GSM8K["question"], "1,200")
    assert (outcome.format, outcome.rows, outcome.repeated) == ("lm-eval samples", 2, 1)
    unknown = sample | {"doc": {"ctx": "x"}, "target": "Bamako", "arguments": {"gen_args_0": {"arg_0": "Mali?"}}}
    item = only(items(write(unknown)), "lm-eval samples")
    assert (item["prompt"], item["expected_answer"]) == ("Mali?", "Bamako")


CHAT = {
    "messages": [
        {"role": "system", "content": "Reason."},
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "<think>\nTwo and two.\n\nFour.\n</think>\n\nThe sum is \\boxed{4}."},
    ]
}


def test_chats_give_thought_and_answer_in_every_notation(write: Any) -> None:
    expected = ("2+2?", ["Two and two.", "Four.", "The sum is \\boxed{4}."], "4")
    found = only(traces(write(CHAT)), "chat messages")
    assert said(found) == expected and (found["system"], found["trace_version"]) == ("Reason.", "1.1")
    joined = only(traces(write(CHAT), Options(reading=Reading(join_turns=True))), "chat messages")
    assert (joined["prompt"], joined["trace_version"], "system" in joined) == ("Reason.\n\n2+2?", "1.0", False)
    assert only(items(write(CHAT)), "chat messages")["expected_answer"] == "4"
    system, user, assistant = CHAT["messages"]
    beside = assistant | {"content": "The sum is \\boxed{4}.", "reasoning_content": "Two and two.\nFour."}
    parts = user | {"content": [{"type": "text", "text": "2+2?"}]}
    assert said(only(traces(write({"messages": [system, parts, beside]})), "chat messages")) == expected
    named = {"system": "system", "user": "human", "assistant": "gpt"}
    shared = [{"from": named[each["role"]], "value": each["content"]} for each in CHAT["messages"]]
    assert said(only(traces(write({"id": "a", "conversations": shared})), "ShareGPT conversations")) == expected
    pair = {"prompt": CHAT["messages"][:2], "completion": CHAT["messages"][2:]}
    assert said(only(traces(write(pair)), "TRL prompt and completion")) == expected
    texts = {"prompt": "2+2?", "completion": "Because.\n#### 4"}
    assert said(only(traces(write(texts)), "TRL prompt and completion")) == ("2+2?", ["Because."], "4")
    alpaca = {"instruction": "Add.", "input": "2 2", "output": "Both are two.</think>4"}
    assert said(only(traces(write(alpaca)), "Alpaca instructions")) == ("Add.\n\n2 2", ["Both are two."], "4")


def test_our_own_chat_export_comes_back(write: Any) -> None:
    content = "<reasoning>\n40 + 2 = 42\n</reasoning>\n<answer>42</answer>"
    row = {"messages": [{"role": "user", "content": "40+2?"}, {"role": "assistant", "content": content}]}
    assert said(only(traces(write(row)), "chat messages")) == ("40+2?", ["40 + 2 = 42"], "42")


def test_what_a_trace_cannot_hold_is_refused_with_a_count_or_left_out_with_one(write: Any) -> None:
    _, user, assistant = CHAT["messages"]
    tool = {"role": "assistant", "content": None, "tool_calls": [{"id": "x"}]}
    system = {"role": "system", "content": "Be brief."}
    rows = [
        CHAT,
        {"messages": [assistant, user, assistant]},
        {"messages": [user, tool, assistant]},
        {"messages": [user, assistant, system, user, assistant]},
        {"messages": [user, {"role": "assistant", "content": "<think>Two and"}]},
        {"messages": [user]},
        {"messages": [user | {"content": [{"type": "image_url", "image_url": {}}]}, assistant]},
        {"messages": [user | {"content": "x" * 50_001}, assistant]},
    ]
    with pytest.raises(UnreadableFile) as refused:
        traces(write(*rows))
    message = str(refused.value)
    assert "7 of 8 rows cannot be imported, read as chat messages" in message
    assert "begins with the assistant" in message and "system message after" in message and "--skip" in message
    found, outcome = traces(write(*rows), Options(skip=True))
    assert (len(found), outcome.rows, sum(outcome.left_out.values())) == (1, 8, 7)
    assert [place for place, _ in outcome.problems] == [f"line {number}" for number in range(2, 9)]


def test_turns_system_message_and_answers_without_reasoning_are_kept_as_they_are(write: Any) -> None:
    user, answer = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}
    system = {"role": "system", "content": "Be brief."}
    row = {"messages": [system, user, answer, user | {"content": "And"}, user | {"content": "3+3?"}, answer]}
    (kept,), _ = traces(write(row))
    history = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
    assert (kept["system"], kept["history"], kept["trace_version"]) == ("Be brief.", history, "1.1")
    assert said(kept) == ("And\n\n3+3?", [], "4")
    joined, _ = traces(write(row), Options(reading=Reading(join_turns=True)), answer_as_step=True)
    assert joined[0]["prompt"].startswith("Be brief.\n\nUser: 2+2?\n\nAssistant: 4")
    assert (joined[0]["steps"][0]["content"], joined[0]["trace_version"]) == ("4", "1.0")
    shared = [{"from": "human", "value": "a?"}, {"from": "gpt", "value": "b"}] * 2
    assert len(traces(write({"conversations": shared}))[0][0]["history"]) == 2
    alpaca = {"instruction": "c?", "output": "d", "history": [["a?", "b"]], "system": "Be brief."}
    (found,), _ = traces(write(alpaca))
    assert (found["history"][1]["content"], found["prompt"], found["system"]) == ("b", "c?", "Be brief.")


def test_thoughts_longer_than_a_trace_may_have_lose_no_line(write: Any) -> None:
    thought = "\n".join(f"step {number}" for number in range(2_500))
    row = {"prompt": "q", "completion": f"<think>{thought}</think>\n7"}
    ((trace,), _) = traces(write(row))
    assert len(trace["steps"]) == 834
    assert "\n".join(step["content"] for step in trace["steps"]) == thought


def test_columns_are_found_by_usual_names_or_mapped(write: Any, tmp_path: Path) -> None:
    path = tmp_path / "quiz.csv"
    path.write_text("nr,Frage,Antwort,Weg,Fach\n1,7 mal 8?,56,7*8=56,Rechnen\n2,Wer?,Ada,so,Leute\n")
    with pytest.raises(UnreadableFile, match=r"has the columns nr, Frage, Antwort, Weg, Fach.*--map prompt=COLUMN"):
        items(path)
    columns = {"prompt": "Frage", "expected_answer": "Antwort", "id": "nr", "category": "Fach"}
    rows, outcome = items(path, Options(columns=columns))
    assert [(row["id"], row["expected_answer"], row["answer_type"]) for row in rows] == [
        ("1", "56", "numeric"),
        ("2", "Ada", "text"),
    ]
    assert (rows[0]["category"], outcome.columns_not_taken) == ("Rechnen", ("Weg",))
    kept, _ = items(path, Options(columns=columns), keep_columns=("Weg",), answer_type="text")
    assert (kept[0]["meta"], kept[0]["answer_type"]) == ({"Weg": "7*8=56"}, "text")
    mapped = Options(columns={"prompt": "Frage", "final_answer": "Antwort", "reasoning": "Weg"})
    assert said(traces(path, mapped)[0][0]) == ("7 mal 8?", ["7*8=56"], "56")
    nested = write({"data": {"q": "2+2?", "a": 4}})
    assert (
        only(items(nested, Options(columns={"prompt": "data.q", "expected_answer": "data.a"})), "columns by --map")[
            "expected_answer"
        ]
        == "4"
    )
    usual = write({"query": "2+2?", "rationale": "two and two", "response": "4"})
    assert said(only(traces(usual), "columns with usual names")) == ("2+2?", ["two and two"], "4")


def test_whole_numbers_are_ids_and_answers(write: Any) -> None:
    own = {"id": 7, "prompt": "q", "expected_answer": 18, "answer_type": "numeric", "aliases": [18, "18.0"]}
    item = only(items(write(own)), "an evalset")
    assert (item["id"], item["expected_answer"], item["aliases"]) == ("7", "18", ["18", "18.0"])
    assert parse_evalset(json.dumps(own)).items[0].references == ("18", "18", "18.0")
    decimal = write({"question": "q", "answer": 0.0})
    decimal.write_text('{"question": "q", "answer": 0.10}\n')
    assert only(items(decimal), "columns with usual names")["expected_answer"] == "0.10"


def test_ids_that_differ_are_kept_and_equal_ones_with_other_content_refused(write: Any) -> None:
    row = {"id": "a", "question": "q", "answer": "x"}
    found, outcome = items(write(row, row))
    assert (len(found), outcome.repeated) == (1, 1)
    with pytest.raises(UnreadableFile, match="line 2: its id is that of an earlier row: 'a'"):
        items(write(row, row | {"answer": "y"}))


def test_halves_of_surrogate_pairs_are_replaced_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "\\ud83d\\ude00 and \\ud83d", "answer": "x"}\n{"question": "q", "answer": "y"}\n')
    rows, outcome = items(path)
    assert (rows[0]["prompt"], outcome.repaired) == ("😀 and \ufffd", 1)
