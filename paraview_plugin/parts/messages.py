"""Errors of a proxy as one line in ParaView's output window."""

from vtkmodules.vtkCommonCore import vtkOutputWindow

from paraloss.errors import ParalossError


def report(message):
    """Write into ParaView's output window; an exception would appear in the terminal only."""
    vtkOutputWindow.GetInstance().DisplayErrorText(f"Paraloss: {message}\n")


def reports_errors(request):
    """Wrap RequestInformation or RequestData: an error becomes one line, and the output stays empty."""

    def guarded(self, information, inputs, outputs):
        try:
            return request(self, information, inputs, outputs)
        except ParalossError as error:
            report(error)
        except ImportError as error:
            report(
                f"ParaView's Python has no {error.name}; install it there (Debian: apt install python3-{error.name}), "
                "or convert the surface once with: paraloss convert surface.h5 surface.vts"
            )
        except Exception as error:  # ParaView must go on whatever a file holds
            report(f"{type(error).__name__}: {' '.join(str(error).split())}")
        return 1  # with an empty output; 0 would add VTK's own page of text

    return guarded


_noted = set()


def report_note(message):
    """Write one line, once per session, to ParaView's output window; it is no error."""
    if message not in _noted:
        _noted.add(message)
        vtkOutputWindow.GetInstance().DisplayText(f"Paraloss: {message}\n")
