# What fails before the runs begin ends the job, with the reason in its log, and in a file, from which the
# waiting command has it sooner than from Slurm.
hpc_id=${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID} # SLURM_JOB_ID of the last element is that of the whole array
hpc_job=$hpc_folder/$hpc_id
hpc_begun= hpc_trap=
# With these people choose what squeue shows them.
for hpc_name in $(env | sed -n 's/^\(SQUEUE_[A-Z0-9_]*\)=.*/\1/p'); do unset "$hpc_name"; done
if test -n "${SLURM_RESTART_COUNT:-}" && grep -qs superseded "$hpc_job"_attempt; then
    echo "somebody requeued this job, but its runs were given to another one: it ends" >&2
    exit 1
fi
rm -f "$hpc_job"_ended "$hpc_job"_stopped "$hpc_job"_run_*_taken
echo "${SLURM_RESTART_COUNT:-0}" >"$hpc_job"_attempt || true
refuse() { trap - EXIT; echo "$1" | tee "$hpc_job"_ended >&2; leave 1; }
on_error() { refuse "a setup command failed with exit code $1: $(sed -n "$2p" "$0")"; }
trap 'at_end $?' EXIT
trap 'trap - EXIT; exit 143' TERM
# not in the files that they source
test -z "${BASH_VERSION:-}" || trap 'code=$?; test -n "${BASH_SOURCE[1]:-}" || on_error $code $LINENO' ERR

# One of the setup commands, which stands there as: trap -- '...' EXIT
take_exit_trap() {
    hpc_trap=$(trap -p EXIT 2>/dev/null) || true
    case $hpc_trap in *'at_end $?'*) hpc_trap= ;; esac
    trap 'at_end $?' EXIT
}
leave() {
    hpc_code=$1
    set +eu
    eval "set -- $hpc_trap"
    eval "${3:-}"
    exit "$hpc_code"
}

# After the runs. Those that were asked to stop have left a word in a file: their job is requeued, unless Slurm
# does that itself, or does not want it any more.
at_end() {
    trap - EXIT
    set +eu
    newest=$(cat "$hpc_job"_attempt 2>/dev/null) # higher where Slurm lost this node and started the job elsewhere
    test "$newest" != superseded && test "${newest:-0}" -le "${SLURM_RESTART_COUNT:-0}" || leave "$1"
    test -n "$hpc_begun" || refuse "the setup commands ended the job"
    tried= warned= stopped= refused=0
    case $1 in
    75 | 129 | 138 | 143) stopped=yes ;; # a rank died of HUP, USR1 or TERM while Python was starting
    140) stopped=yes warned=yes ;;       # and of USR2
    esac
    if test -e "$hpc_job"_starting && test "$1" != 0 && test -z "$stopped"; then
        why=$(sed '/^srun: error: .*Exited with/d' "$hpc_job"_0_log.* | tail -n 1)
        refuse "$hpc_python does not start, or lacks what the runs need: $why. On a login node: $hpc_remedy"
    fi
    rm -f "$hpc_job"_starting "$hpc_job"_run_*_taken
    : >> "$hpc_job"_stopped || leave "$1" # a network file system shows what is in a file when it is opened
    test -s "$hpc_job"_stopped || test -n "$stopped" || { rm -f "$hpc_job"_stopped; leave "$1"; }
    test "$1" != 0 || stopped=yes
    ! grep -q -e warned -e timeout "$hpc_job"_stopped || warned=yes
    while :; do
        ask_fate
        case $fate in
        RUNNING) test -n "$stopped" || test -z "$hpc_together" ||
            refuse "one of its ranks ended with exit code $1" ;;
        "") test -n "$warned" || leave 75 ;; # Slurm ends the job, or requeues it
        TIMEOUT) test -n "$warned" && test -z "$tried" || refuse TIMEOUT ;;
        REQUEUED) leave 75 ;;
        *) refuse "$fate" ;;
        esac
        test -z "$fate" || test -z "$tried" || refused=$((refused + 1))
        test $refused -lt 2 || refuse_requeue
        test -n "$tried" || is_worth_it
        tried=yes
        answer=$(timeout 60 scontrol requeue "$hpc_id" 2>&1) && leave 75
        echo "not requeued: $answer; trying again" >&2
        sleep 2
    done
}

# What Slurm means to do with the job: RUNNING, since the signal was somebody else's or a warning; REQUEUED;
# else how it will have ended. While it ends, the state of any of them is COMPLETING.
ask_fate() {
    IFS=' ' read -r fate restarts preempted left reason <<END
$(timeout 20 squeue --noheader --jobs="$hpc_id" --states=all --Format=State:40,RestartCnt:40,PreemptTime:40,TimeLeft:40,Reason:40)
END
    case $fate in "" | RUNNING) return ;; esac
    test "$restarts" -le "${SLURM_RESTART_COUNT:-0}" || reason=REQUEUED
    case $reason in
    None)
        case $preempted in
        N/A | None) fate=CANCELLED ;;
        *) fate="PREEMPTED, and not requeued here: hpc retry goes on from the last checkpoint" ;;
        esac
        ;;
    TimeLimit) fate=TIMEOUT ;;
    NodeDown) fate=NODE_FAIL ;;
    *) fate=${reason%% *} ;;
    esac
}

refuse_requeue() {
    mend= time=
    ! grep -qs timeout "$hpc_job"_stopped || time="TIMEOUT: "
    case $answer in *"presently disabled"*)
        mend=": ++hydra.launcher.additional_parameters.requeue=true asks for it, unless SBATCH_NO_REQUEUE is set" ;;
    esac
    refuse "${time}not requeued: $answer$mend"
}

# Time was over as often as is allowed, or once without any progress: ranks say how many steps they know of.
is_worth_it() {
    # Also of a limit that was lowered after the submission, of which the ranks do not know.
    case $left in [0-3]:[0-5][0-9]) sed -i 's/^warned/timeout/' "$hpc_job"_stopped ;; esac
    steps=$(sed -n 's/^timeout //p' "$hpc_job"_stopped | sort -n | tail -n 1)
    before=$(cat "$hpc_job"_steps 2>/dev/null)
    rm -f "$hpc_job"_steps # after a stop for another reason there is nothing to compare with
    grep -q timeout "$hpc_job"_stopped || return 0
    test -z "$steps" || echo "$steps" >"$hpc_job"_steps || true
    test -z "$steps" || test "$steps" -gt "${before:--1}" ||
        refuse "TIMEOUT: no step further than when time was over before (hydra.launcher.timeout_min, or checkpoints more often)"
    timeouts=$(($(cat "$hpc_job"_timeouts 2>/dev/null || echo 0) + 1))
    echo $timeouts >"$hpc_job"_timeouts
    test $timeouts -le "$hpc_max_num_timeout" ||
        refuse "TIMEOUT: time was over more often than hydra.launcher.max_num_timeout allows"
}
