"""What the local stack is doing."""

from __future__ import annotations

from stack.services import Service
from stack.setup import Setup, read_setup
from stack.start import health
from stack.supervision import Process, Supervisor


def show_status() -> int:
    """Print each service with its state, process and address; 1 where the stack is not whole, else 0."""
    setup = read_setup()
    supervisor = Supervisor(setup)
    if not supervisor.answers():
        print("The stack is not running; 'make stack' starts it.")
        return 1
    processes = supervisor.processes()
    are_well = [_show(setup, service, processes[service.name]) for service in setup.services]
    return int(not all(are_well))


def _show(setup: Setup, service: Service, process: Process) -> bool:
    if service.is_one_shot:
        is_well = process.state == "EXITED" and process.exit_status == 0
        state = "done" if is_well else process.state.lower()
    else:
        trouble = health(setup, service) if process.state == "RUNNING" else process.state.lower()
        is_well = trouble is None
        state = "healthy" if trouble is None else trouble
    address = f"  {setup.place.hosts[service.name]}:{setup.place.ports[service.name]}" if service.listens else ""
    process_id = f"process {process.process_id}" if process.process_id else ""
    print(f"{service.name:16} {state:10} {process_id:16}{address}".rstrip())
    return is_well
