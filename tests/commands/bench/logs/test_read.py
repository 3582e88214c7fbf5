"""The output of other tools becomes rows. The logs are short: lines as those tools print them, with our own figures."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys

import pytest

from edgetl.commands.bench.logs.read import read_log, read_logs
from edgetl.core.errors import DataError
from edgetl.core.stats import quantile_interval

CPU = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Num threads: [4]
INFO: Graph: [/data/local/tmp/flowers int8.tflite]
INFO: Signature to run: []
INFO: #threads used for CPU inference: [4]
INFO: Loaded model /data/local/tmp/flowers int8.tflite
INFO: Initialized TensorFlow Lite runtime.
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
VERBOSE: Replacing 60 out of 62 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 3 partitions for subgraph 0.
INFO: The input model file size (MB): 0.63352
INFO: Initialized session in 4.711ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=121 first=9121 curr=4099 min=4020 max=9121 avg=4131.2 std=461 p5=4031 median=4088 p95=4190

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=242 first=4101 curr=4113 min=4017 max=5210 avg=4121.77 std=90 p5=4040 median=4107 p95=4266

INFO: Inference timings in us: Init: 4711, First inference: 9121, Warmup (avg): 4131.2, Inference (avg): 4121.77
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual \
memory footprint of the model at runtime. Take the information at your discretion.
INFO: Memory footprint delta from the start of the tool (MB): init=3.5 overall=6.25
"""
GPU = (
    CPU.replace("[4]\nINFO: Loaded", "[4]\nINFO: Use gpu: [1]\nINFO: Loaded")
    .replace("Created TensorFlow Lite XNNPACK delegate for CPU.", "GPU delegate created.")
    .replace("TfLiteXNNPackDelegate", "TfLiteGpuDelegateV2")
)
APPLIED = (
    "INFO: Explicitly applied GPU delegate, and the model graph will be %s executed by the delegate.\nINFO: The input"
)
PERF = """\
Setting intra_op_num_threads to 2
Session creation time cost: 0.0412 s
First inference time cost: 7 ms
Total inference time cost: 1.234 s
Total inference requests: 200
Average inference time cost total: 6.170000 ms
Total inference run time: 1.2345 s
Number of inferences per second: 162.009
Avg CPU usage: 97 %
Peak working set size: 36696064 bytes
Avg CPU usage:97
Peak working set size:36696064
Runs:200
Min Latency: 0.0059 s
Max Latency: 0.0091 s
P50 Latency: 0.0061 s
P90 Latency: 0.0066 s
P95 Latency: 0.0069 s
P99 Latency: 0.0081 s
P999 Latency: 0.0091 s
"""


def test_a_log_of_benchmark_model_becomes_a_row_like_ours():
    (row,) = read_log(CPU, source="run.log")
    expected = {
        "model": "/data/local/tmp/flowers int8.tflite", "name": "flowers int8.tflite", "backend": "litert-cpu",
        "threads": 4, "status": "ok", "load_ms": 4.711, "first_ms": 9.121, "mean_ms": 4.12177, "min_ms": 4.017,
        "max_ms": 5.21, "p50_ms": 4.107, "p95_ms": 4.266, "std_ms": 0.09, "runs": 242, "warmup_runs": 121,
        "memory": {"model_bytes": 6553600}, "library": "benchmark_model",
    }  # fmt: skip
    assert {key: row[key] for key in expected} == {
        key: pytest.approx(value) if isinstance(value, float) else value for key, value in expected.items()
    }
    assert row["placement"]["ops"] == {"XNNPACK": 60, "LiteRT kernels": 2}


def test_figures_that_a_log_does_not_have_are_none():
    (row,) = read_log(CPU, source="run.log")
    for name in ("p90_ms", "p99_ms", "p50_interval_ms", "throughput_per_s", "rounds", "machine", "device", "import_ms"):
        assert row[name] is None, name
    (row,) = read_log(
        "count=50 curr=7\nInference timings in us: Init: 9, First inference: 8, Warmup (avg): 8, Inference (avg): 7",
        source="a.log",
    )
    assert row["threads"] is None and row["memory"] is None and row["placement"] is None and row["name"] == "a"


def test_levels_and_logcat_prefixes_make_no_difference():
    bare = re.sub("^(INFO|VERBOSE): ", "", CPU, flags=re.MULTILINE)
    brief = "".join(f"07-08 15:37:34.588 I/tflite  ( 6071): {line}\n" for line in bare.splitlines())
    thread = "".join(f"07-14 13:14:52.097 22838 22838 I tflite  : {line}\n" for line in bare.splitlines())
    (expected,) = read_log(CPU, source="x")
    for text in (bare, brief, thread, CPU.replace("\n", "\r\n")):
        assert read_log(text, source="x") == [expected]


def test_several_runs_in_one_log_are_several_rows():
    second = CPU.replace("[4]", "[1]").replace("4121.77", "9000.5").replace("max=5210", "max=9990")
    threads = [(row["threads"], round(row["mean_ms"], 6)) for row in read_log(CPU + second, source="x")]
    assert threads == [(4, 4.12177), (1, 9.0005)]
    # logcat omits the first lines.
    cut = second[second.index("INFO: Num threads") :]
    assert [row["threads"] for row in read_log(CPU + cut, source="x")] == [4, 1]


def test_the_format_of_2018_is_read():
    text = """STARTING!
Num threads: [2]
Graph: [/data/local/tmp/net.tflite]
Initialized session in 4.183ms
count=13 first=39195 curr=37526 min=37464 max=39195 avg=37625.7 std=453
count=25 first=37601 curr=37528 min=37413 max=37700 avg=37550.5 std=60

Average inference timings in us: Warmup: 37625.7, Init: 4183, no stats: 37550.5
"""
    (row,) = read_log(text, source="x")
    assert (row["mean_ms"], row["load_ms"], row["first_ms"], row["runs"]) == (37.5505, 4.183, None, 25)


@pytest.mark.parametrize(
    ("text", "status", "note"),
    [
        pytest.param(GPU.replace("60 out of", "62 out of"), "ok", "", id="all nodes replaced"),
        pytest.param(GPU, "fallback", "only 97% of its ops ran on the GPU", id="two nodes left"),
        pytest.param(GPU.replace("VERBOSE: Rep", "x"), "fallback", "does not say that the model ran there", id="nothing said"),
        pytest.param(
            GPU.replace("VERBOSE: Rep", "x").replace("INFO: The input", APPLIED % "completely"), "ok", "", id="completely"
        ),
        pytest.param(
            GPU.replace("VERBOSE: Rep", "x").replace("INFO: The input", APPLIED % "partially"),
            "fallback", "does not say that the model ran there", id="partially",
        ),
        pytest.param(
            # A delegate that was created, said that it took every node, and then declined: seen with NNAPI.
            GPU.replace("60 out of", "62 out of")
            .replace("INFO: The input", "INFO: Though GPU delegate is explicitly applied, the model graph will not be executed by the delegate.\nINFO: The input"),
            "fallback", "ran none of its ops", id="declined",
        ),
    ],
)  # fmt: skip
def test_an_accelerator_counts_only_where_the_log_shows_all_ops_on_it(text, status, note):
    (row,) = read_log(text, source="x")
    assert (row["backend"], row["status"]) == ("litert-gpu", status)
    assert note in "; ".join(row["notes"])


def test_two_delegates_share_the_nodes():
    more = "VERBOSE: Replacing 20 out of 33 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 3 partitions for subgraph 0.\n"
    text = GPU.replace("60 out of", "30 out of").replace("INFO: The input", f"{more}INFO: The input")
    (row,) = read_log(text, source="x")
    assert row["placement"]["ops"] == {"GPU delegate": 30, "XNNPACK": 20, "LiteRT kernels": 12}


def test_the_profile_of_the_timed_runs_is_read_slowest_first():
    columns = (
        "\t\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]\n"
    )
    table = (
        "INFO: Profiling Info for Benchmark Initialization:\n"
        "============================== Run Order ==============================\n"
        f"{columns}\t\t         AllocateTensors\t    9.102\t    9.102\t100.000%\t100.000%\t     0.000\t        1\tAllocateTensors/0\n\n"
        "INFO: Operator-wise Profiling Info for Regular Benchmark Runs:\n"
        "============================== Run Order ==============================\n"
        f"{columns}\t\t   Convolution (NHWC, QS8) IGEMM\t    0.067\t    0.078\t  3.783%\t  3.783%\t     0.000\t        1\tDelegate/Convolution (NHWC, QS8) IGEMM:0\n"
        "\t\t                       SOFTMAX\t    1.342\t    1.339\t 18.197%\t100.000%\t     0.000\t        1\t[probs]:114\n\n"
        "============================== Top by Computation Time ==============================\n"
        f"{columns}\t\t                       SOFTMAX\t    1.342\t    1.339\t 18.197%\t100.000%\t     0.000\t        1\t[probs]:114\n\n"
        "Timings (microseconds): count=67 first=7068 curr=7410 min=6282 max=7683 avg=7360.09 std=256\n"
    )
    (row,) = read_log(CPU + table, source="x")
    assert row["profile"] == [
        {"op": "SOFTMAX", "name": "[probs]:114", "ms": 1.339, "executor": ""},
        {"op": "Convolution (NHWC, QS8) IGEMM", "name": "Delegate/Convolution (NHWC, QS8) IGEMM:0", "ms": 0.078, "executor": ""},
    ]  # fmt: skip
    assert row["runs"] == 242


def test_a_run_that_failed_says_why():
    text = CPU[: CPU.index("INFO: The input")] + "ERROR: Failed to apply GPU delegate.\nBenchmarking failed.\n"
    (row,) = read_log(text, source="x")
    assert (row["status"], row["reason"], row["mean_ms"]) == ("failed", "Failed to apply GPU delegate.", None)


def test_a_log_of_onnxruntime_perf_test_becomes_a_row():
    (row,) = read_log(PERF, source="perf.log")
    expected = {
        "backend": "unknown", "threads": 2, "load_ms": 41.2, "first_ms": 7.0, "mean_ms": 6.17, "min_ms": 5.9,
        "p50_ms": 6.1, "p90_ms": 6.6, "p95_ms": 6.9, "p99_ms": 8.1, "max_ms": 9.1, "runs": 200, "timed_s": 1.2345,
        "throughput_per_s": 162.009, "memory": {"peak_bytes": 36696064}, "std_ms": None, "name": "perf",
    }  # fmt: skip
    assert {key: row[key] for key in expected} == {
        key: pytest.approx(value) if isinstance(value, float) else value for key, value in expected.items()
    }
    assert read_log(PERF, source="x", backend="ort-cpu")[0]["backend"] == "ort-cpu"


def test_model_and_provider_come_from_the_command_before_the_output_of_perf_test():
    command = "$ ./onnxruntime_perf_test -e cuda -r 200 -m times -s -I nets/flowers.onnx\n"
    rows = read_log(command + PERF + command.replace("cuda", "cpu") + PERF, source="x")
    assert [(row["model"], row["backend"]) for row in rows] == [
        ("nets/flowers.onnx", "ort-cuda"), ("nets/flowers.onnx", "ort-cpu")
    ]  # fmt: skip


def test_a_real_run_of_litert_s_python_tool_is_read(tiny_net, tmp_path):
    model = tiny_net(tmp_path) / "net.tflite"
    done = subprocess.run(
        [sys.executable, "-m", "ai_edge_litert.tools.benchmark_litert_model", f"--model={model}", "--num_runs=40",
         f"--result_json={tmp_path / 'r.json'}"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, env={**os.environ, "PYTHONPATH": ""}, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    (row,) = read_log(done.stdout, source="x")
    latency = json.loads((tmp_path / "r.json").read_text())["latency"]
    for ours, theirs in {"mean_ms": "avg_ms", "p50_ms": "median_ms", "p95_ms": "p95_ms", "max_ms": "max_ms"}.items():
        assert row[ours] == latency[theirs]
    assert (row["runs"], row["model"], row["backend"], row["threads"]) == (40, str(model), "litert-cpu", 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", "holds no measurement", id="empty"),
        pytest.param("count the stars=4\n", "holds no measurement", id="something else"),
        pytest.param(CPU[: CPU.index("INFO: Inference timings")], "no `Inference timings in us` line", id="broken off"),
        pytest.param(CPU.replace("Inference (avg): 4121.77", "Inference (avg): 3121.77"), "contradicts itself.*timed runs", id="mean and count line"),
        pytest.param(CPU.replace("min=4017", "min=4417"), "contradicts itself.*min_ms is 4.417", id="min above median"),
        pytest.param(CPU.replace("4121.77", "nan"), "contradicts itself.*not a number", id="nan"),
        pytest.param(PERF.replace("P90 Latency: 0.0066", "P90 Latency: 0.0166"), "contradicts itself.*p90_ms is 16.6", id="p90 above p95"),
        pytest.param(PERF.replace("requests: 200", "requests: 100"), "contradicts itself.*100 runs took", id="count and total"),
        pytest.param(PERF[: PERF.index("Average")], "no `Average inference time cost` line", id="perf_test broken off"),
    ],
)  # fmt: skip
def test_a_log_that_is_broken_or_contradicts_itself_is_refused(text, said):
    with pytest.raises(DataError, match=said):
        read_log(text, source="x.log")


def test_a_missing_log_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_logs([tmp_path / "none.log"])


def test_the_device_is_the_one_that_the_user_names(tmp_path):
    (tmp_path / "a.log").write_text(CPU)
    (row,) = read_logs([tmp_path / "a.log"], device="Raspberry Pi 4 Model B")
    assert row["machine"] == {"board": "Raspberry Pi 4 Model B"} and row["device"] == "Raspberry Pi 4 Model B"
    assert row["measured_elsewhere"] is True


@pytest.mark.parametrize("n", [20, 120, 300, 1000])
def test_the_interval_from_a_log_s_quantiles_encloses_the_one_from_all_its_runs(n):
    source = random.Random(n)
    times = sorted(source.lognormvariate(1.4, 0.2) for _ in range(n))
    at = {name: times[int(n * share)] * 1e3 for name, share in (("p5", 0.05), ("median", 0.5), ("p95", 0.95))}
    line = (
        f"count={n} first=1 curr=1 min={times[0] * 1e3} max={times[-1] * 1e3} avg={sum(times) / n * 1e3} std=1 "
        + " ".join(f"{name}={value}" for name, value in at.items())
    )
    text = f"{line}\nInference timings in us: Init: 9, First inference: 8, Warmup (avg): 8, Inference (avg): {sum(times) / n * 1e3}"
    (row,) = read_log(text, source="x")
    low, high = quantile_interval(times, 0.9)
    assert row["p90_interval_ms"][0] <= low and high <= row["p90_interval_ms"][1]
    # p95 is far enough from p90 only for enough runs; the slowest of all is the edge otherwise.
    assert (row["p90_interval_ms"][1] < times[-1]) == (n > 200)


def test_escape_sequences_in_a_log_do_not_reach_the_terminal():
    (row,) = read_log(CPU.replace("flowers int8", "\x1b[2Jflowers"), source="x\x1b")
    assert "\x1b" not in json.dumps(row, ensure_ascii=False)
