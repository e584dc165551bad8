"""What Dagster knows of the executor of a cluster; the executor is imported in the pod of a run only, which needs it."""

import dagster as dg

from resources.compute import StepCompute

DESCRIPTION = "Every step is a Kubernetes Job with the GPUs, cores, memory and nodes that its spec asks for."
MAX_CONCURRENT = "How many steps of this run are executed at once, at most; the pools limit those of all runs."


def step_jobs(compute: StepCompute, gpu_image: str | None = None) -> dg.ExecutorDefinition:
    """Define the executor.

    Its config has nothing of what dagster-k8s' own takes about pods: whoever may launch a run could give its steps another
    image, or the variable that allows layers files.

    Args:
        compute: what each step gets.
        gpu_image: image of the steps that get a GPU; None for that of all others.
    """

    def make(context: dg.InitExecutorContext) -> dg.Executor:
        from resources.k8s_executor import job_executor

        return job_executor(context, compute, gpu_image)

    return dg.ExecutorDefinition(
        name="step_jobs",
        config_schema={"max_concurrent": dg.Field(int, is_required=False, description=MAX_CONCURRENT)},
        requirements=dg.multiple_process_executor_requirements(),
        executor_creation_fn=make,
        description=DESCRIPTION,
    )
