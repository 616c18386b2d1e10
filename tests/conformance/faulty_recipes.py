"""A recipe that keeps every rule, and edits of it that break one each."""

from faults import FAULTS, Fault

GROUP = "repkit.recipes"
NAME = "kit_recipe"
TEXT = f"""\
# repkit train-ser --recipe {NAME} --corpus mine=FOLDER
schema = 1
command = "train-ser"
name = "{NAME}"
description = "a small network, for tests"

[labels]
map = "neumann2019"
views = ["emotion", "arousal"]

[frontend]
name = "log_mel"
bands = 12

[protocol]
name = "speaker_k_fold"
k = 3

[model]
name = "attentive_cnn"
n_filters = 8

[[objectives]]
name = "multi_view"
weight = 1.0

[[phases]]
name = "all"

[[phases]]
name = "heads"
train = ["head", "adapter"]
"""


class Edit:
    """A text put in the place of another."""

    def __init__(self, name, old, new):
        self.__name__, self.old, self.new = name, old, new

    def text(self):
        assert self.old in TEXT
        return TEXT.replace(self.old, self.new)


def _fault(check, name, old, new, also=()):
    FAULTS.append(Fault(GROUP, check, Edit(name, old, new), also=also))


_fault("it_validates", "unknown_key", "schema = 1", "schema = 1\nepochs = 3")
_fault("it_validates", "not_toml", "schema = 1", "schema 1")
_fault("the_first_line_is_the_command", "no_comment", TEXT.splitlines()[0], "")
_fault("the_first_line_is_the_command", "other_recipe", f"--recipe {NAME}", "--recipe another")
_fault("the_first_line_is_the_command", "other_command", "# repkit train-ser", "# repkit embed")
_fault("it_has_its_name_and_says_what_it_is", "other_name", f'name = "{NAME}"', 'name = "another"')
_fault("it_has_its_name_and_says_what_it_is", "no_description", '"a small network, for tests"', '""')
_fault("components_can_be_had", "unknown_model", '"attentive_cnn"\nn_filters = 8', '"attentive_cnm"')
_fault("settings_of_components_fit", "unknown_setting", "k = 3", "n_folds = 3")
_fault("labels_are_known", "unknown_map", '"neumann2019"', '"neumann2018"', ("every_phase_trains_something", "two_steps_can_be_trained"))  # fmt: skip
_fault("every_phase_trains_something", "nothing", '["head", "adapter"]', '["adapter"]')
_fault("two_steps_can_be_trained", "weightless", "weight = 1.0", "weight = 0.0")
