"""Quality control: a reference set of known contents, run on a schedule; overdue or failed, it locks patient counts."""
