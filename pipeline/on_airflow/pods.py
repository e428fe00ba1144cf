"""A step as a Kubernetes pod: the same command, workspace and exit codes, with image and limits of infra/resources.yaml.

Pods see the project, its runs and its DVC cache on one shared volume (claim `ctr-home`, at CTR_HOME), so checkpoints outlive
a pod. The acts around the steps stay subprocesses of the worker, which mounts the same volume.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException
from kubernetes.client import models as k8s

from pipeline.on_airflow.tasks import HOME, end_as, run_words
from pipeline.resources import Need, Resources

NAMESPACE = "ctr"
_VOLUME = "home"


class PodTask(KubernetesPodOperator):
    """Runs `python -m pipeline ARGUMENTS` in a pod, in the run's worktree, and ends as the container's exit code says."""

    def __init__(
        self, *, command: tuple[str, ...], window_days: int | None, need: Need, resources: Resources, **keywords: Any
    ) -> None:
        super().__init__(
            namespace=NAMESPACE,
            image=resources.image,
            service_account_name="ctr-stages",
            automount_service_account_token=False,
            container_resources=container_resources(need, resources.accelerator),
            volumes=[
                k8s.V1Volume(
                    name=_VOLUME,
                    persistent_volume_claim=k8s.V1PersistentVolumeClaimVolumeSource(claim_name="ctr-home"),
                )
            ],
            volume_mounts=[k8s.V1VolumeMount(name=_VOLUME, mount_path=str(HOME))],
            termination_grace_period=int(resources.runs.stop_grace_seconds),
            reattach_on_restart=True,
            on_finish_action="delete_pod",
            **keywords,
        )
        self.command = command
        self.window_days = window_days
        self._code: int | None = None

    def execute(self, context: Context) -> int:
        """Run the pod; raise what Airflow takes for retry, failure or skip."""
        words = run_words(context, self.window_days)
        self.cmds = ["python", "-m", "pipeline", *self.command, "--workspace", words["folder"]]
        self.arguments: list[str] = []
        device = str(context["params"].get("device") or "auto")
        self.env_vars = [k8s.V1EnvVar("CTR_DEVICE", device), k8s.V1EnvVar("CTR_HOME", str(HOME))]
        try:
            super().execute(context)
        except AirflowException:
            if not self._code:
                raise
            return end_as(self._code)
        return end_as(0)

    def cleanup(self, pod: Any, remote_pod: Any, *arguments: Any, **keywords: Any) -> None:
        """Remember the container's exit code before the pod is gone."""
        self._code = exit_code_of(remote_pod, self.base_container_name)
        super().cleanup(pod, remote_pod, *arguments, **keywords)


def container_resources(need: Need, accelerator: str) -> k8s.V1ResourceRequirements:
    """Requests and limits; accelerators are limits only, as Kubernetes wants them."""
    share = {"cpu": str(need.cpu), "memory": f"{need.memory_gib}Gi"}
    gpu = {accelerator: str(need.gpu)} if need.gpu else {}
    return k8s.V1ResourceRequirements(requests=share, limits=share | gpu)


def exit_code_of(pod: Any, container: str) -> int | None:
    """The exit code of a pod's container, None where it never ended by itself."""
    statuses = (pod.status.container_statuses or []) if pod is not None and pod.status is not None else []
    ended = [status.state.terminated for status in statuses if status.name == container and status.state is not None]
    return next((one.exit_code for one in ended if one is not None), None)
