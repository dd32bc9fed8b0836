# The programs that tools/gpu_check.sh needs, and the table of its steps; sourced.

part_limit=270 # seconds of a part

gpu_tests=(test_kernels test_rows test_attention test_quant_gpu test_chain test_wire test_marks test_sample
    test_parity)
gpu_programs=("${gpu_tests[@]}" gpu_bench gpu_same gpu_ranks)

# A line for each step, in the order in which they run: part, seconds, name, and a function of
# tools/gpu_check/correct.sh, speed.sh or common.sh with its arguments. A step may use its own seconds
# and those that earlier steps did not use, but none of later steps.
plan() {
    cat <<'PLAN'
correct   6 device            describe
correct   6 doctor            doctor
correct   4 libraries         missing_libraries
correct  10 text              compare_texts
correct   8 kernels           unit_test test_kernels
correct   5 rows              unit_test test_rows
correct   8 attention         unit_test test_attention
correct   5 quantised         unit_test test_quant_gpu
correct   5 chain             unit_test test_chain
correct   6 wire              unit_test test_wire
correct   4 marks             unit_test test_marks
correct   5 samplers          unit_test test_sample
correct  12 parity            unit_test test_parity
correct  18 checkpoint        make_checkpoint memory
correct  15 early_same        early_same
correct  12 logits            logits_both_ways
correct  26 transformers      peer_logits
correct  15 racecheck         sanitize racecheck
correct  11 synccheck         sanitize synccheck
correct  15 memcheck          sanitize memcheck
correct   7 nccl_threads_2    nccl_threads 2
correct   7 nccl_threads_3    nccl_threads 3
correct   8 nccl_threads_4    nccl_threads 4
correct   9 nccl_true_shape   nccl_true_shape
correct   8 nccl_processes_2  nccl_processes 2
correct   8 nccl_processes_3  nccl_processes 3
correct   9 nccl_processes_4  nccl_processes 4
correct   4 alltoall          alltoall
correct  14 stopped_rank      stopped_rank
speed     6 device            describe
speed    14 early_on          workload early_on
speed    14 early_off         workload early_off
speed    14 early_on_again    workload early_on_again
speed    12 profile           profiled_workload
speed    30 phases            phases
speed    25 variants          variants
speed    25 ncu               counters
speed    20 batches           batches
speed    38 transformers      peer_speed
speed    10 nccl_asking       nccl_workload nccl_asking
speed    10 nccl_blocking     nccl_workload nccl_blocking
speed    15 virtual_ranks     virtual_ranks
speed    16 checkpoint        make_checkpoint disk
speed    21 loading           loading
PLAN
}

# The steps of a part, or only those named.
steps_of() { # part, names separated by commas or ''
    plan | awk -v part="$1" -v only=",$2," '$1 == part && (only == ",," || index(only, "," $3 ","))'
}

sum_of() { # part
    plan | awk -v part="$1" '$1 == part { sum += $2 } END { print sum + 0 }'
}
