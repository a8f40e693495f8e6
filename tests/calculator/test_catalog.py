"""The catalogue: its rows, how they are found by name, and the user's own over them."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from scripts import check_gpus
from services.calculator import catalog
from services.calculator.assumptions import Own
from services.calculator.catalog import PRICE_CONTEXTS, Instance, Unit
from services.calculator.types import Way
from services.pricing import sources


@pytest.mark.parametrize(
    ("written", "row"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "Llama-3.1-8B"),
        ("llama 3.1 8b", "Llama-3.1-8B"),
        ("Meta-Llama-3.1-70B-Instruct-FP8", "Llama-3.1-70B"),
        ("meta-llama/Llama-2-7b-chat-hf", "Llama-2-7B"),
        ("TheBloke/Llama-2-13B-chat-AWQ", "Llama-2-13B"),
        ("openai/gpt-oss-120b", "gpt-oss-120b"),
        ("microsoft/Phi-3-mini-4k-instruct", "Phi-3-mini"),
        ("mistralai/Mistral-Nemo-Instruct-2407", "Mistral-Nemo-12B"),
        ("facebook/opt-13b", "OPT-13B"),
    ],
)
def test_a_model_is_found_as_people_write_it(written: str, row: str) -> None:
    assert catalog.llm(written).name == row


@pytest.mark.parametrize(
    ("written", "row"),
    [
        ("A100-SXM4-80GB", "A100-80GB-SXM"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB-SXM"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB-PCIe"),
        ("NVIDIA H100 80GB HBM3", "H100-SXM"),
        ("H100 PCIe", "H100-PCIe"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("Tesla T4", "T4"),
        ("A10", "A10"),
        ("A10G", "A10G"),
        ("AMD Instinct MI300X", "MI300X"),
    ],
)
def test_a_gpu_is_found_as_logs_write_it(written: str, row: str) -> None:
    assert catalog.gpu(written).name == row


def test_no_two_models_share_their_words_so_that_none_hides_another() -> None:
    written = [catalog.words(name) for name in catalog.llms()]
    assert len(set(written)) == len(written)
    assert len({catalog.words(name) for name in catalog.gpus()}) == len(catalog.gpus())


def test_an_unknown_name_is_an_error_with_the_nearest_and_never_the_nearest_itself() -> None:
    with pytest.raises(LookupError, match=r'no model "Llama-3.1-9B".*Llama-3.1-8B'):
        catalog.llm("Llama-3.1-9B")
    with pytest.raises(LookupError, match='no GPU "RTX 3060"'):
        catalog.gpu("RTX 3060")
    with pytest.raises(LookupError, match=r'no priced instance "g5.3xlarge".*g5\.'):
        catalog.base().instance("g5.3xlarge")
    with pytest.raises(LookupError, match='no model ""'):
        catalog.llm("")


def test_every_row_has_a_source_and_a_date_that_has_been() -> None:
    base = catalog.base()
    rows = [
        *base.gpus.values(),
        *base.llms.values(),
        *base.instances.values(),
        *base.units,
        *base.api_models,
        *base.speeds.values(),
        *base.quotas,
    ]
    for row in rows:
        assert row.source, row
        assert date.fromisoformat((row.date + "-01-01")[:10] if len(row.date) == 4 else (row.date + "-01")[:10]), row
        assert row.date <= datetime.now(UTC).date().isoformat(), row


def test_every_instance_has_a_gpu_of_the_table_and_its_memory() -> None:
    for one in catalog.instances().values():
        assert one.gpu in catalog.gpus(), one.name
        assert one.gpu_memory_gib == catalog.gpus()[one.gpu].memory_gib
        assert one.usd_per_hour > 0 and one.count > 0
        assert (one.way is Way.SAGEMAKER) == one.name.startswith("ml.")


def test_gpu_figures_are_dense_and_memory_is_below_what_is_printed_on_the_box() -> None:
    for gpu in catalog.gpus().values():
        if gpu.tflops_fp8 is not None and gpu.name.startswith(("L4", "H", "B", "GB")):
            assert 1.9 < gpu.tflops_fp8 / gpu.tflops_bf16 < 2.1, gpu.name
    h100, a100 = catalog.gpu("H100"), catalog.gpu("A100-80GB")
    assert 79.0 < h100.memory_gib < 79.6 and 79.0 < a100.memory_gib < 79.4
    assert a100.tflops_fp8 is None


def test_a_difference_from_aiconfigurator_is_told_and_an_agreement_is_not() -> None:
    row = {
        "name": "H100-SXM",
        "bandwidth_gb_s": "3350",
        "tflops_bf16": "1979",
        "tflops_fp8": "",
        "tflops_fp4": "",
        "link_gb_s": "450",
    }
    system = (
        "gpu:\n  mem_bw: 3350000000000 # B/s\n  bfloat16_tc_flops: 989000000000000\n  fp8_tc_flops: 1978000000000000\n"
    )
    found = list(check_gpus.differences(row, system))
    assert found == ["H100-SXM: tflops_bf16 is 1979 here and 989 in aiconfigurator."]


def test_every_service_model_has_a_standard_price_and_only_contexts_that_have_one() -> None:
    now = datetime.now(UTC)
    for model in catalog.api_models():
        assert model.contexts[0] == "standard", model.model_ref
        for name, context in PRICE_CONTEXTS.items():
            priced = sources.listed(model.provider, model.model_ref, now, context) is not None
            assert priced == (name in model.contexts), (model.model_ref, name)
    assert len(catalog.api_models()) == len(catalog.rows("model_families.csv"))


def test_the_same_weights_on_bedrock_and_self_hosted_are_one_family() -> None:
    on_bedrock = {one.model_ref: one.family for one in catalog.api_models() if one.way is Way.BEDROCK}
    for ref, family in {
        "meta.llama3-1-8b-instruct-v1:0": "Llama-3.1-8B",
        "meta.llama3-1-70b-instruct-v1:0": "Llama-3.1-70B",
        "openai.gpt-oss-120b-1:0": "gpt-oss-120b",
        "google.gemma-3-27b-it": "Gemma-3-27B",
        "qwen.qwen3-32b-v1:0": "Qwen3-32B",
    }.items():
        assert on_bedrock[ref] == family and family in catalog.llms()
    haiku = {one.way for one in catalog.api_models() if one.family == "claude-haiku-5-5"}
    assert haiku == {Way.ANTHROPIC, Way.BEDROCK}


def test_units_carry_the_seed_price_and_say_where_a_quote_is_needed() -> None:
    by_key = {(one.model_id, one.commitment): one for one in catalog.units()}
    assert by_key["anthropic.claude-v2:1", "1-month"].usd_per_hour == 63.0
    nova = by_key["amazon.nova-pro-v1:0", "none"]
    assert nova.usd_per_hour is None and nova.family == "nova-pro" and "ask AWS" in nova.note
    assert len(by_key) == len(catalog.units())


def test_a_speed_that_is_not_published_is_not_known() -> None:
    assert catalog.base().speed("openai", "gpt-6-luna") is None
    haiku = catalog.base().speed("anthropic", "claude-haiku-4-5")
    assert haiku is not None and haiku.ttft_p50_s == 0.597 and haiku.ttft_p95_s is None and haiku.kind == "list"


def test_a_quota_holds_for_the_names_that_contain_it() -> None:
    base = catalog.base()
    found = base.quota("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0")
    assert found is not None and found.tpm == 200_000 and found.output_weight == 5
    assert base.quota("bedrock", "amazon.nova-pro-v1:0") is None


def test_own_rows_take_the_place_of_ours_and_leave_ours_as_they_were() -> None:
    mine = replace(catalog.llm("Llama-3.1-8B"), max_context=4096, source="mine")
    box = Instance("my-box", Way.CONTAINER, "L40S", 1, 0.5, "mine", "2026-11-24")
    quote = Unit("bedrock", "amazon.nova-pro-v1:0", "Amazon Nova Pro", "none", 70.0, None, None, "quote", "2026-11-24")
    both = catalog.merged(Own(llms=(mine,), instances=(box,), units=(quote,)))
    assert both.llm("llama 3.1 8b").max_context == 4096
    assert both.instance("my-box").usd_per_hour == 0.5
    assert [one.usd_per_hour for one in both.units if (one.model_id, one.commitment) == (quote.model_id, "none")] == [
        70
    ]
    assert catalog.llm("llama 3.1 8b").max_context == 131_072 and "my-box" not in catalog.instances()
    assert catalog.merged(Own()) is catalog.base()


def test_every_family_that_can_be_called_has_a_context_and_a_title() -> None:
    base = catalog.base()
    only_units = {one.family for one in base.units} - {one.family for one in base.api_models} - set(base.llms)
    assert set(base.families) - set(base.contexts) == only_units - {""}
    assert base.model_ids() == sorted(base.families, key=str.lower) and "claude-2.1" in base.model_ids()
    assert base.families["claude-haiku-5-5"] == "Claude Haiku 5.5"
    assert base.contexts["claude-haiku-4-5"] == 200_000
