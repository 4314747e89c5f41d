"""Virtual machines of the fake Compute: a confined process that runs a startup script as GCE's guest agent does.

Namespaces of its own (mount, pid, network, UTS, IPC), `pivot_root` into a Debian tree, a device cgroup that knows its
disks only, a memory limit, a metadata server on 169.254.169.254. The kernel is shared: it is no security boundary.
"""
