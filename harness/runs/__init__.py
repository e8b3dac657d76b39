"""What a run is, before and after it is trained; nothing here trains.

From a request to its runs (`plan`, `repeat` from a manifest), the layers of configuration (`configuration`, `fields`),
what decides a run's identity (`run_spec`, `sources`, `weights`, `precision`, `data`), its directory, lock and manifest
(`directory`, `manifest`, `environment`), and the seeds of all that it draws (`seeds`).
"""
