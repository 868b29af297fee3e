"""PostgreSQL: the pool with its deadlines, the migrations, and the server that development runs by itself."""
