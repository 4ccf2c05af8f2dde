"""ModelServer: builds the tree, starts it in order and stops it in reverse. The only file that knows everybody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

from pyserving import config, options
from pyserving.errors import ServingError, Unknown
from pyserving.executors.executor import Executor
from pyserving.executors.tf_session import open_saved_model
from pyserving.frontends import monitoring, reflection, status_pages
from pyserving.frontends.health import Health
from pyserving.frontends.model_service import ModelService
from pyserving.frontends.prediction_service import PredictionService
from pyserving.lifecycle.manager import AspiredVersionsManager, LoadRetries
from pyserving.lifecycle.monitor import ServableStateMonitor
from pyserving.loader import ServableLoader
from pyserving.metrics import Metrics
from pyserving.options import Options, schedulable_cpus
from pyserving.outcome import Fate, failure_text
from pyserving.servable import Servable
from pyserving.server_core import ServerCore
from pyserving.session import DirectSession
from pyserving.sources.file_system import FileSystemStoragePathSource
from pyserving.transports.admission import Admission
from pyserving.transports.grpcio_server import GrpcioServer
from pyserving.transports.http1.server import HttpServer
from pyserving.types import AspiredVersion, ServableId
from pyserving.workers import Workers

_log = logging.getLogger(__name__)
