"""Create a run and follow it to its scorecard with plain grpcio and the generated stubs, nothing else of Tunix-RT.

python examples/follow_run.py REGISTRY_ADDRESS DATASET_ID EVALSET_KEY [MAX_STEPS]     (token in TUNIX_RT_TOKEN)
"""

import os
import sys
import uuid

import grpc

from tunix_rt.v1 import common_pb2, evaluations_pb2, evaluations_pb2_grpc, runs_pb2, runs_pb2_grpc


def main(address: str, dataset_id: str, evalset: str, max_steps: int) -> int:
    metadata = (("authorization", f"Bearer {os.environ['TUNIX_RT_TOKEN']}"),)
    with grpc.insecure_channel(address) as channel:
        runs = runs_pb2_grpc.RunServiceStub(channel)
        evaluations = evaluations_pb2_grpc.EvaluationServiceStub(channel)
        spec = runs_pb2.RunSpec(
            base_model="preset://tiny",
            dataset_id=dataset_id,
            hyperparameters=runs_pb2.Hyperparameters(
                learning_rate=3e-3, per_device_batch_size=16, max_steps=max_steps, max_seq_length=128
            ),
            evaluate_on=[
                runs_pb2.EvaluateOn(evalset=evalset, generation=common_pb2.GenerationConfig(max_new_tokens=64))
            ],
        )
        request = runs_pb2.CreateRunRequest(request_id=str(uuid.uuid4()), spec=spec, display_name="plain grpcio")
        run = runs.CreateRun(request, metadata=metadata, timeout=10)
        print("run", run.id, "created", flush=True)
        for update in runs.WatchRun(runs_pb2.WatchRunRequest(id=run.id), metadata=metadata, timeout=900):
            run = update.run
            state = common_pb2.JobState.Name(run.state)
            print("run", run.id, state, f"{run.progress.done}/{run.progress.total}", run.progress.unit, flush=True)
        if run.state != common_pb2.JOB_STATE_SUCCEEDED:
            print("run ended without a model:", run.message, file=sys.stderr)
            return 1
        for evaluation_id in run.evaluation_ids:
            watch = evaluations_pb2.WatchEvaluationRequest(id=evaluation_id)
            for seen in evaluations.WatchEvaluation(watch, metadata=metadata, timeout=900):
                evaluation = seen.evaluation
                print("evaluation", evaluation.id, common_pb2.JobState.Name(evaluation.state), flush=True)
            card = evaluation.scorecard
            print(
                f"scorecard {evaluation.id} primary_score {card.primary_score:.4f} "
                f"[{card.ci_low:.4f}, {card.ci_high:.4f}] n {card.n_scored}/{card.n_items}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 60))
