"""Inside QGIS: map a scene; once the job runs, tell the number of this process and go on."""

import os
import sys

import processing
from qgis.core import QgsProcessingFeedback

scene, target, told = sys.argv[1:]


class Feedback(QgsProcessingFeedback):
    """Writes the process's number as soon as there is progress."""

    def setProgress(self, percent):
        if percent > 0 and not os.path.exists(told):
            with open(told + ".part", "w") as file:
                file.write(str(os.getpid()))
            os.replace(told + ".part", told)


processing.run("mmearth:segment", {"INPUT": [scene], "OUTPUT": target}, feedback=Feedback())
