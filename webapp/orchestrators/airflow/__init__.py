"""Apache Airflow as orchestrator: flights and runs are DAG runs, and its tasks call back.

`models` is what has been and shall be handed over, `flights` hands over plain rockets, `runs` the runs that are due,
`callbacks` what tasks say, `settling` what Airflow says when it is asked, `rest` its REST API, `dispatcher` the process
that talks to it.
"""
