"""Measurements, side by side in one run: ``make bench`` or ``python -m tests.benchmarks [names…] [--quick]``.

How to read them:

- Every contender of a table was measured in the same run, one after the other, each in a fresh process on uvloop.
  Compare the lines of one table; do not compare tables of two runs, and not figures of two machines.
- The load average is printed with every table. Above about 1.5 on two cores something else was running, and the p99
  figures are those of that something. ``LAB_BENCH_NICE=-15`` (root) keeps other work of the machine out.
- All stamps are `time.perf_counter_ns`, which is CLOCK_MONOTONIC: the server's and the client's can be subtracted.
- An aim is printed beside the figure that it is for, with "met" or "missed". A miss is a miss: nothing is repeated
  until it fits, and no outlier is left out.

What each one is:

``streams``  lag = our stamp of a delta − the server's stamp just before it wrote that delta. TTFT error = the client's
             TTFT − (server's first content write − first byte of the request at the server). ITL error = a gap between
             two deltas at the client − the same gap at the server, absolute. CPU = process time of the client process
             (all of its threads) from the first request to the last row, by deltas received.
             "ours" is the whole engine (rows committed before and after, frames for one watcher per run, deadlines,
             heartbeat); "our reader" is the same reader without them. The others keep nothing but their stamps.
``click``    the browser's own stamp of the click on Send → first byte of the request at the server, and its parts.
``viewers``  screen delay = arrival of a frame at a headless browser − the server's stamp of the newest delta in it.
``writer``   rows acknowledged (committed, synchronous=FULL) per second, and how long an acknowledgement took.
``startup``  the second start of ``lab run``: to a page that answers, and to the first token of the embedded model.
"""
