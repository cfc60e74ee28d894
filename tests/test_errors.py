"""The tree of exceptions: what each holds, and that it survives the way between processes."""

from __future__ import annotations

import pickle

import pytest

from nephros.errors import FileError, InvalidArgument, MissingDependency, NephrosError, UnknownName, did_you_mean


def test_an_invalid_argument_names_parameter_value_and_what_is_allowed() -> None:
    error = InvalidArgument("optimizer.lr", -1, "above 0", hint="Try 0.1.")
    assert isinstance(error, ValueError)
    assert isinstance(error, NephrosError)
    assert (error.parameter, error.value, error.expected, error.hint) == ("optimizer.lr", -1, "above 0", "Try 0.1.")
    assert str(error) == "`optimizer.lr` is -1, but it must be above 0. Try 0.1."


def test_a_value_from_a_file_is_named_by_file_and_key() -> None:
    assert str(InvalidArgument("epochs", 0, "at least 1", source="mine.yaml")).startswith("mine.yaml: epochs is 0")


def test_long_and_empty_values_are_shortened_and_named() -> None:
    assert len(str(InvalidArgument("name", "x" * 1000, "short"))) < 200
    assert "is empty" in str(InvalidArgument("name", "", "a name"))


def test_an_unknown_name_suggests_the_nearest() -> None:
    error = UnknownName("recipe", "postr", ["poster", "course-1"])
    assert error.options == ("poster", "course-1")
    assert "'postr'" in str(error)
    assert "Did you mean 'poster'?" in str(error)


@pytest.mark.parametrize(("name", "suggested"), [("epoch", True), ("epocs", True), ("rows", False), ("xyz", False)])
def test_only_near_names_are_suggested(name: str, suggested: bool) -> None:
    assert bool(did_you_mean(name, ["epochs", "seed"])) is suggested


def test_the_only_longer_name_is_suggested_before_a_similar_one() -> None:
    options = ["--data", "--tta-views", "--time-point", "--threads"]
    assert did_you_mean("--tta", options) == " Did you mean '--tta-views'?"
    assert did_you_mean("--t", options) == ""
    assert did_you_mean("head", ["head", "heads"]) == " Did you mean 'head'?"


def test_a_name_in_another_case_is_near() -> None:
    assert did_you_mean("dap", ["autofluorescence", "DAPI"]) == " Did you mean 'DAPI'?"
    assert did_you_mean("DAPL", ["Dapi"]) == " Did you mean 'Dapi'?"


def test_a_missing_dependency_is_an_import_error() -> None:
    assert isinstance(MissingDependency("Tuning needs Optuna."), ImportError)


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgument("epochs", 0, "at least 1", hint="h", source="s"),
        UnknownName("recipe", "postr", ["poster"], kind="recipe"),
        FileError("a.npz", "a.npz is damaged."),
        NephrosError("Something."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_can_be_pickled(error: NephrosError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
