"""ROUGE against what the Perl program printed for others, COCO's against published values."""

from __future__ import annotations

import numpy as np
import pytest

from tests.metrics.test_generation import HYPOTHESES, REFERENCES
from unimo_paddle.errors import UserError
from unimo_paddle.metrics.rouge import rouge, rouge_l_coco, stemmed_words

# Texts and values of ROUGE-1.5.5 in the tests of google-research/rouge: rouge/testdata and
# rouge_scorer_test.py ("ground truth scores are taken from manual runs of ROUGE-1.5.5").
TARGET_0 = (
    "ZfbCUIUuePaiLVUlCaUXxkpu XPeWing tUHfPMuZ',-Xd Y BrUgVJing M-HV.-DgdDaY.rFDJCRing Ht-LM "
    "EKBDXkME,yz'RBr q'wtion wIojNbN wL,b .a-'XdQggyFl jB-RPP'iyOIcUxer tKM L"
)
TARGET_1 = (
    "KsJdPByEtAor fE-Qg Dpdbring cw-WeFyu vC MoBL Xdn g wkvcEiGvKtion BDFhrpMtion psing sbKao Q m "
    "qiing LMmer HqqLFXe,XPY,J XsurkMer ,ed nB'wH'bWVHjWFEing tQ.saefZwJtKrTlixYpMMsJing "
    "UCAPwNHeYVjDing c T BUySKtion gMPfJpwGw p'NvxAoping eu pBwMBKV'I DNxqelhu,PHPxDEq,mtion SN"
)
TARGET_2 = (
    "NhETebUbBk'er WOvoHMTjSRizKgH'vHiing Xu,hWxfs VkNE QhgKiLHE -HidivzoM.dO anhtion "
    "jbLQiSGDTCsuhREebUaKM dv J dVN tmbOT"
)
TARGET_3 = (
    "vMR HDm,xOAetion D,tion HJtodT.mHl UIv-p VjWH'BdyWjnfGU-OjT aEMdFICyLWfQMtion wEMfdOKing "
    "AwkeKbO 'DxqNOHBH qKtVvm OYJl mM"
)
PREDICTION_0 = "rFDJCRtion Ht-LM EKtDXkME,yz'RBr q'wer wrojNbN wL,b .a-'XdQggyFl jB-RPP'iyOIcUxi"
PREDICTION_1 = (
    "n cw-WeFyu vC MoBL Xdn g wkvcEiGvKtion BDFhrpMer pstion sbKao Q m qier LMmed HqqLFXe,XPY,J "
    "XsurkMeo ,ed nB'wH'bWVHjWFEer tQ.saefZwJtKrTlixYpMMNJtion UCAPwNHeYVjD"
)
PREDICTION_2 = "xfs VkJE QhgKiLHE -HidivzoM.dO anhing jbLQiSGDTCsuhREebUaKM dv J"
PREDICTION_3 = "VjWH'BdyWjnfGU-OjTNaEMdFICyLWfQMing wEMfdOKijg AwkeKbO 'DxqNO"

# Texts of DUC 2004 and the values that py-rouge's README prints for the Perl program's rules, each
# text cut to 100 words as there.
DISSIDENTS = (
    "China 's government said Thursday that two prominent dissidents arrested this week are "
    "suspected of endangering national security _ the clearest sign yet Chinese leaders plan to "
    "quash a would-be opposition party .\nOne leader of a suppressed new political party will be "
    "tried on Dec. 17 on a charge of colluding with foreign enemies of China '' to incite the "
    "subversion of state power , '' according to court documents given to his wife on Monday .\n"
    "With attorneys locked up , harassed or plain scared , two prominent dissidents will defend "
    "themselves against charges of subversion Thursday in"
)
HURRICANE = (
    "Hurricane Mitch, category 5 hurricane, brought widespread death and destruction to "
    "Central American.\nEspecially hard hit was Honduras where an estimated 6,076 people lost "
    "their lives.\nThe hurricane, which lingered off the coast of Honduras for 3 days before "
    "moving off, flooded large areas, destroying crops and property.\nThe U.S. and European "
    "Union were joined by Pope John Paul II in a call for money and workers to help the "
    "stricken area.\nPresident Clinton sent Tipper Gore, wife of Vice President Gore to the "
    "area to deliver much needed supplies to the area, demonstrating U.S. commitment to the "
    "recovery of"
)


def test_words_are_stemmed_and_counted_as_by_the_perl_program() -> None:
    found = rouge([PREDICTION_0, PREDICTION_1], [[TARGET_0], [TARGET_1]])
    rouge_1 = [(0.68750, 0.40741, 0.51163), (0.69231, 0.42857, 0.52941)]
    rouge_2 = [(0.53333, 0.30769, 0.39024), (0.48000, 0.29268, 0.36364)]
    np.testing.assert_allclose(found["rouge_1"], rouge_1, atol=5e-6)
    np.testing.assert_allclose(found["rouge_2"], rouge_2, atol=5e-6)


def test_subsequences_of_several_sentences_are_united_as_by_the_perl_program() -> None:
    prediction = "\n".join([PREDICTION_0, PREDICTION_1, PREDICTION_2, PREDICTION_3])
    target = "\n".join([TARGET_0, TARGET_1, TARGET_2, TARGET_3])
    found = rouge([prediction], [[target]])["rouge_l"][0]
    np.testing.assert_allclose(found, (0.66667, 0.36538, 0.47205), atol=5e-6)


def test_irregular_forms_are_looked_up_before_stemming() -> None:
    # "were" and "are" are no match for a stemmer alone: 13.98, 12.62, 13.27.
    found = rouge([DISSIDENTS], [[HURRICANE]])
    np.testing.assert_allclose(found["rouge_1"][0], (0.1505, 0.1359, 0.1429), atol=5e-5)
    assert found["rouge_2"].max() == 0.0


def test_words_are_letters_and_digits_and_short_ones_stay() -> None:
    assert stemmed_words("The children's dogs, 2,000 of them, RAN.") == [
        *("the", "child", "s", "dog", "2", "000", "of", "them", "ran"),
    ]


def test_letters_that_lower_case_makes_ascii_separate_words() -> None:
    assert stemmed_words("\u0130zmir at 5\u212a") == ["zmir", "at", "5"]


def test_the_best_reference_counts() -> None:
    found = rouge(["a b"], [["c d", "a b", "a d"]])
    assert found["rouge_1"].tolist() == found["rouge_l"].tolist() == [[1.0, 1.0, 1.0]]


def test_a_text_without_words_scores_nothing() -> None:
    assert all(values.max() == 0.0 for values in rouge(["...", "a"], [["a"], [""]]).values())


def test_rouge_l_of_coco_is_the_published_one() -> None:
    references = [[text.split() for text in texts] for texts in REFERENCES]
    found = rouge_l_coco([text.split() for text in HYPOTHESES], references)
    assert found.mean() == pytest.approx(0.522104, abs=5e-7)


def test_best_precision_and_best_recall_may_come_from_two_references() -> None:
    # nlg-eval's own test of one text: nlgeval/tests/test_nlgeval.py.
    references = [["this", "is", "a", "test"], ["this", "is", "also", "a", "test"]]
    found = rouge_l_coco([["this", "is", "a", "good", "test"]], [references])
    assert found[0] == pytest.approx(0.9070631, abs=5e-6)
    assert rouge_l_coco([["a"], []], [[["b"]], [["b"], []]]).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("measure", [rouge, rouge_l_coco])
@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [([], [], "of 0 texts"), (["a"], [], "references of 0"), (["a"], [[]], "text 0 has no ref")],
)
def test_texts_without_references_are_refused(measure, hypotheses, references, message) -> None:
    with pytest.raises(UserError, match=message):
        measure(hypotheses, references)
