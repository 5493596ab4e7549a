"""One answer for all ranks of a parallel ParaView: that of rank 0.

A file that grows looks different to ranks that look at it a moment apart; what decides extents must not.
"""

import json

from vtkmodules.vtkCommonCore import vtkUnsignedCharArray
from vtkmodules.vtkParallelCore import vtkMultiProcessController

from paraloss.errors import InputError


def from_first(make):
    """Return what ``make()`` gives on rank 0. All ranks call this together.

    Args:
        make: function without arguments; what it returns can be written as JSON.

    Raises:
        InputError: on the other ranks, where ``make`` failed on rank 0; there its own error.
    """
    controller = vtkMultiProcessController.GetGlobalController()
    if controller is None or controller.GetNumberOfProcesses() == 1:
        return make()
    failure, said = None, vtkUnsignedCharArray()
    if controller.GetLocalProcessId() == 0:
        try:
            text = json.dumps({"found": make()})
        except Exception as error:  # the other ranks wait, whatever went wrong
            failure, text = error, json.dumps({"error": str(error)})
        for byte in text.encode():
            said.InsertNextValue(byte)
    controller.Broadcast(said, 0)
    if failure is not None:
        raise failure
    answer = json.loads(bytes(said.GetValue(k) for k in range(said.GetNumberOfValues())))
    if "error" in answer:
        raise InputError(answer["error"])
    return answer["found"]
