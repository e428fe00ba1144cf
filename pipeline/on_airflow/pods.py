"""A step as a Kubernetes pod: image, limits and exit codes as everywhere, the workspace from an object store.

A pod pulls the run's workspace from CTR_WORKSPACES, runs the step and pushes what it made (pipeline/run_store.py); its
checkpoints go there too, so they outlive it. Addresses and credentials come from the secret `ctr-store`. The acts around
the steps stay subprocesses of Airflow's worker.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException
from kubernetes.client import models as k8s

from pipeline.on_airflow.tasks import end_as, run_words
from pipeline.resources import Need, Resources

NAMESPACE = "ctr"
SECRET = "ctr-store"  # CTR_WORKSPACES, CTR_REGISTRY, CTR_STORE, AWS_*
_VOLUME = "workspace"
_PLACE = "/workspace"
_USER = 10001  # of infra/Dockerfile.stages


class PodTask(KubernetesPodOperator):
    """Runs one step of `dvc.yaml` in a pod and ends as the container's exit code says."""

    def __init__(self, *, verb: str, need: Need, resources: Resources, **keywords: Any) -> None:
        super().__init__(
            namespace=NAMESPACE,
            image=resources.image,
            service_account_name="ctr-stages",
            automount_service_account_token=False,
            container_resources=container_resources(need, resources.accelerator),
            env_from=[k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=SECRET))],
            security_context=k8s.V1PodSecurityContext(
                run_as_non_root=True,
                run_as_user=_USER,
                fs_group=_USER,
                seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
            ),
            container_security_context=k8s.V1SecurityContext(
                allow_privilege_escalation=False, capabilities=k8s.V1Capabilities(drop=["ALL"])
            ),
            volumes=[k8s.V1Volume(name=_VOLUME, empty_dir=k8s.V1EmptyDirVolumeSource())],
            volume_mounts=[k8s.V1VolumeMount(name=_VOLUME, mount_path=_PLACE)],
            termination_grace_period=int(resources.runs.stop_grace_seconds),
            reattach_on_restart=True,
            on_finish_action="delete_pod",
            **keywords,
        )
        self.verb = verb
        self._code: int | None = None

    def execute(self, context: Context) -> int:
        """Run the pod; raise what Airflow takes for retry, failure or skip."""
        words = run_words(context)
        self.cmds = pod_command(self.verb, Path(words["folder"]).name)
        self.arguments: list[str] = []
        self.env_vars = [k8s.V1EnvVar("CTR_DEVICE", str(context["params"].get("device") or "auto"))]
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


def pod_command(verb: str, run: str) -> list[str]:
    """What the container runs, in the image's own copy of the project."""
    return ["python", "-m", "pipeline", "runs", "step", verb, "--run", run, "--folder", f"{_PLACE}/run"]


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
